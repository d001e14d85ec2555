"""The page holds the latest, the lowest and some of all trajectories, within its budget."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.toy_run import TRAJECTORY, hostile_record, record, revising_record, write_lines
from unmask.runs.trajectories import trajectory_record
from unmask.viewer.traces import MAX_CHARACTERS, NUM_LATEST, is_playable, read_traces


def shown(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(island) for island in read_traces(path, **options).islands]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trajectories.jsonl"


def test_no_file_has_no_traces(path: Path) -> None:
    assert read_traces(path).islands == ()


def test_all_fields_of_a_trajectory_are_kept(path: Path) -> None:
    write_lines(path, [record(step=4, reward=(0.5, 0.0, 0.0, 0.25))])
    (trace,) = shown(path)
    assert trace["pieces"] == ["[9]", "[10]", "[14]", "[18]", "[15]", "[14]", "[20]", "[0]"]
    assert (trace["block"], trace["tail"]) == (4, [9, 10])
    assert (trace["ids"], trace["steps"]) == ([14, 18, 15, 14, 20, 0], [1, 2, 1, 3, 3, 0])
    assert trace["logprobs"] == [-0.5, -0.25, 0.0, -1.0, -2.0, 0.0]
    assert (trace["reward"], trace["token_rewards"]) == (0.5, [0.5, 0.0, 0.0, 0.25])
    assert (trace["num_response"], trace["finish"], trace["step"]) == (4, "stop", 4)
    assert trace["messages"] == [{"role": "user", "content": "2-7-2="}]
    assert (trace["parts"], trace["key"]) == ({"format": 0.5}, "4.11")
    assert trace["why"] == ["latest", "lowest", "spread"]


def test_earlier_writes_and_new_masks_are_kept(path: Path) -> None:
    write_lines(path, [revising_record(), record(seed=12)])
    revised, plain = sorted(shown(path), key=lambda trace: "revisions" not in trace)
    assert revised["revisions"] == [[1, 1, 9, -0.125], [1, 3, 15, -0.75], [2, 3, None, 0.0]]
    assert revised["pieces"][8:] == ["[9]", "[15]", "[1]"]
    assert "revisions" not in plain and len(plain["pieces"]) == 8


@pytest.mark.parametrize(
    "wrong",
    [{}, [1], [{"step": 1, "position": 6, "token": 1, "logprob": 0.0}], [{"step": 1}], None],
)
def test_records_of_wrong_revisions_are_not_played(wrong: Any) -> None:
    assert is_playable(revising_record())
    assert not is_playable(revising_record() | {"revisions": wrong})


def test_records_without_pieces_are_shown_by_id(path: Path) -> None:
    write_lines(path, [trajectory_record(TRAJECTORY, "-5;-", 1.0)])
    (trace,) = shown(path)
    assert trace["pieces"] is None


def test_full_attention_is_one_block_without_the_prompt(path: Path) -> None:
    sampling = replace(TRAJECTORY.sampling, block_size=None)
    write_lines(path, [record(trajectory=replace(TRAJECTORY, sampling=sampling))])
    (trace,) = shown(path)
    assert (trace["block"], trace["tail"]) == (None, [])
    assert len(trace["pieces"]) == 6


def test_choice_is_latest_lowest_and_spread(path: Path) -> None:
    rewards = [0.0 if step % 50 == 7 else 1.0 for step in range(1, 501)]
    write_lines(path, [record(s, seed=s, reward=r) for s, r in enumerate(rewards, start=1)])
    traces = shown(path)
    steps = [trace["step"] for trace in traces]
    assert steps == sorted(steps) and len(set(steps)) == len(steps)
    assert [t["step"] for t in traces if "latest" in t["why"]] == list(range(501 - NUM_LATEST, 501))
    assert {t["step"] for t in traces if t["reward"] == 0} >= set(range(7, 501, 50))
    assert min(t["step"] for t in traces if "spread" in t["why"]) == 1


def test_budget_is_kept_and_the_rest_counted(path: Path) -> None:
    write_lines(path, [record(step, seed=step) for step in range(1, 101)])
    traces = read_traces(path, max_bytes=5000)
    assert 2 < len(traces.islands) < 20
    assert sum(map(len, traces.islands)) <= 5000
    assert traces.num_left_out > 50
    assert len(read_traces(path, max_bytes=1).islands) == 1


def test_long_texts_are_cut_with_a_mark(path: Path) -> None:
    write_lines(path, [record(text="x" * 5000)])
    (trace,) = shown(path)
    assert trace["text"].startswith("x" * MAX_CHARACTERS)
    assert trace["text"].endswith(" [... 1,000 more characters]")


def test_hostile_text_is_complete_and_harmless(path: Path) -> None:
    hostile = hostile_record()
    write_lines(path, [hostile])
    (island,) = read_traces(path).islands
    assert island.isascii() and not set("<>&") & set(island)
    assert json.loads(island)["pieces"] == hostile["pieces"]


@pytest.mark.parametrize(
    "change",
    [
        {"canvas_ids": []},
        {"step_map": [1]},
        {"behavior_logprobs": [None] * 6},
        {"reward": "1"},
        {"reward": float("nan")},
        {"prompt": None},
        {"prompt": {"token_ids": "x", "messages": []}},
        {"text": 3},
        {"num_response": None},
        {"parts": [1]},
        {"sampling": []},
        {"step": "1"},
    ],
    ids=str,
)
def test_records_that_cannot_be_played_are_left_out(change: dict[str, Any]) -> None:
    whole = json.loads(json.dumps(record()))
    assert is_playable(whole)
    assert not is_playable(whole | change)


def test_responses_of_an_evaluation_get_their_gradings(path: Path) -> None:
    asked = [{"variation": name, "problem": 0, "sample": 0} for name in ("static", "dynamic")]
    write_lines(path, [{**record(step=0), **name, "reward": None, "parts": {}} for name in asked])
    assert [trace["reward"] for trace in shown(path)] == [None, None]  # not graded yet
    grading = path.parent / "gradings" / "1"
    grading.mkdir(parents=True)
    verdicts = [{**name, "reward": 0.5 + i, "parts": {"p": 1.0}} for i, name in enumerate(asked)]
    write_lines(grading / "verdicts.jsonl", verdicts)
    found = shown(path)  # equal except for the sampling: both are kept
    assert {(t["variation"], t["reward"]) for t in found} == {("static", 0.5), ("dynamic", 1.5)}
    assert found[0]["parts"] == {"p": 1.0}
