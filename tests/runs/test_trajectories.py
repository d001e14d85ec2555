"""A record is plain JSON and holds everything about a response except the reference answer."""

import json
from dataclasses import replace

import pytest

from unmask.images import Image
from unmask.runs.trajectories import grid_ids, total_reward, trajectory_record
from unmask.sampling_params import SamplingParams
from unmask.types import Message, Prompt, PromptImage, Revision, Trajectory

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
REVISED = replace(
    TRAJECTORY,
    step_map=(4, 2, 0, 0),
    revisions=(
        Revision(1, 1, 8, -0.5, "write"),
        Revision(2, 0, 3, -0.7, "write"),
        Revision(3, 0, 1, 0.0, "remask", policy_version=2),
    ),
    num_steps=5,
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


def test_policy_versions_are_kept_where_they_differ() -> None:
    assert "policy_versions" not in trajectory_record(TRAJECTORY, "2", 0.0)
    mixed = replace(TRAJECTORY, policy_versions=(3, 2, 3, 3))
    assert trajectory_record(mixed, "2", 0.0)["policy_versions"] == (3, 2, 3, 3)


def test_revisions_are_recorded_where_there_are_any() -> None:
    assert not {"revisions", "num_steps"} & trajectory_record(TRAJECTORY, "2", 0.0).keys()
    record = json.loads(json.dumps(trajectory_record(REVISED, "2", 0.0)))
    assert record["num_denoising_steps"] == 5 and "num_steps" not in record
    first, *_, last = record["revisions"]
    assert first == {"step": 1, "position": 1, "token": 8, "logprob": -0.5, "kind": "write"}
    assert last == {
        "step": 3,
        "position": 0,
        "token": 1,
        "logprob": 0.0,
        "kind": "remask",
        "policy_version": 2,
    }


def test_ids_of_revisions_follow_the_grid() -> None:
    assert grid_ids(REVISED) == (5, 6, *REVISED.canvas_ids, 8, 3, 1)


def test_images_are_recorded_by_name_and_digest() -> None:
    image = Image("a.png", b"content")
    message = Message.of("user", image, "1+1=")
    held = PromptImage(image.digest, 1)
    prompt = replace(TRAJECTORY.prompt, messages=(message,), token_ids=(5, -1), images=(held,))
    record = trajectory_record(replace(TRAJECTORY, prompt=prompt), "2", 1.0)
    named = [{"name": "a.png", "digest": image.digest.hex()}]
    assert json.loads(json.dumps(record["prompt"])) == {
        "task": "sum",
        "uid": 7,
        "messages": [{"role": "user", "content": "<image>\n1+1=", "images": named}],
        "token_ids": [5, -1],
        "image_vectors": [{"digest": image.digest.hex(), "count": 1}],
    }


def test_reward_may_be_one_number_per_token() -> None:
    assert trajectory_record(TRAJECTORY, "2", (0.5, 1.0))["reward"] == (0.5, 1.0)


def test_pieces_are_kept_when_given() -> None:
    assert "pieces" not in trajectory_record(TRAJECTORY, "2", 0.0)
    pieces = ("1", "=", "2", "<eos>", "<mask>", "<mask>")
    assert trajectory_record(TRAJECTORY, "2", 0.0, pieces=pieces)["pieces"] == list(pieces)
    with pytest.raises(AssertionError, match="one piece per token"):
        trajectory_record(TRAJECTORY, "2", 0.0, pieces=pieces[2:])


@pytest.mark.parametrize(("block", "tail"), [(4, (5, 6)), (2, ()), (None, ())])
def test_grid_starts_at_the_block_the_prompt_ends_in(
    block: int | None, tail: tuple[int, ...]
) -> None:
    sampling = replace(TRAJECTORY.sampling, block_size=block)
    assert grid_ids(replace(TRAJECTORY, sampling=sampling)) == (*tail, 2, 0, 9, 9)


def test_trajectory_keeps_its_reference() -> None:
    trajectory_record(TRAJECTORY, "2", 0.0)
    assert "answer" in TRAJECTORY.prompt.reference


def test_total_reward() -> None:
    assert total_reward(0.5, [1, 1]) == 0.5
    assert total_reward([0.5, 1.0], [1, 2]) == 1.5
    assert total_reward([0.5, 1.0, 4.0], [1, 1, 2]) == 4.75
