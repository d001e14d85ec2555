"""A record is plain JSON and says everything about a response but the reference answer."""

import json

from unmask.runs.trajectories import trajectory_record
from unmask.types import Message, Prompt, SamplingParams, Trajectory

TRAJECTORY = Trajectory(
    prompt=Prompt("sum", 7, (Message("user", "1+1="),), (5, 6), {"answer": object()}),
    canvas_ids=(2, 0, 9, 9),
    step_map=(2, 1, 0, 0),
    behavior_logprobs=(-0.5, -0.25, 0.0, 0.0),
    num_response=2,
    finish="stop",
    policy_version=3,
    sampling=SamplingParams(block_size=4, stop_token_ids=(0,)),
    num_forwards=3,
)


def test_record_is_plain_json() -> None:
    record = trajectory_record(TRAJECTORY, "2", 1.0, {"format": 1.0}, step=4)
    read = json.loads(json.dumps(record, allow_nan=False))
    assert (read["step"], read["text"], read["reward"]) == (4, "2", 1.0)
    assert read["parts"] == {"format": 1.0}
    assert read["canvas_ids"] == [2, 0, 9, 9]
    assert read["step_map"] == [2, 1, 0, 0]
    assert read["num_denoising_steps"] == 2
    assert read["sampling"]["block_size"] == 4
    assert read["prompt"] == {
        "task": "sum",
        "uid": 7,
        "messages": [{"role": "user", "content": "1+1="}],
        "token_ids": [5, 6],
    }


def test_reward_may_be_one_number_per_token() -> None:
    assert trajectory_record(TRAJECTORY, "2", (0.5, 1.0))["reward"] == (0.5, 1.0)


def test_trajectory_keeps_its_reference() -> None:
    trajectory_record(TRAJECTORY, "2", 0.0)
    assert "answer" in TRAJECTORY.prompt.reference
