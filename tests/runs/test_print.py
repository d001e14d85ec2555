"""Printed trajectories show the order of revealing, and control sequences never reach the terminal."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.runs.past_runs import trajectory, write_lines
from unmask.runs.print import choose, print_trajectories, read_step, visible

TEXTS = {7: "5", 15: ";", 13: "-", 3: "1", 0: "<eos>"}


def pieces(ids: Any) -> list[str]:
    return [TEXTS[token_id] for token_id in ids]


def printed(*records: dict[str, Any], with_pieces: bool = True, **options: Any) -> str:
    stream = io.StringIO()
    console = Console(file=stream, highlight=False, width=40, **options)
    print_trajectories(records, pieces if with_pieces else None, console)
    return stream.getvalue()


def test_tokens_have_their_step_outside_a_terminal() -> None:
    assert printed(trajectory(step=40, reward=0.5)) == (
        "#1  step 40, reward 0.5, graded 0.5, 5 tokens in 3 denoising steps, ended by stop, "
        "chain_sum 7\n"
        "user      4+1-6=\n"
        "response  5;-1\n"
        'order     2:"5" 1:";" | 2:"-" 3:"1" 0:"<eos>"\n\n'
    )


def test_steps_have_colours_on_a_terminal() -> None:
    text = printed(trajectory(), force_terminal=True, color_system="truecolor")
    first, middle, last = "38;2;70;120;255", "38;2;60;170;70", "38;2;235;70;60"
    for style, token in ((middle, "5"), (first, ";"), (middle, "-"), (last, "1")):
        assert f"\x1b[{style}m{token}\x1b[0m" in text
    assert "order" not in text
    assert "\x1b[2m|\x1b[0m" in text  # the block border


def test_terminal_without_colours_has_steps() -> None:
    assert "order     2:" in printed(trajectory(), force_terminal=True, no_color=True)


def test_recorded_pieces_take_precedence_over_the_tokenizer() -> None:
    grid = ["prompt", "tail", "a", "b", "c", "d", "e", "f"]
    text = printed(trajectory(pieces=grid), with_pieces=False)
    assert 'order     2:"a" 1:"b" | 2:"c" 3:"d" 0:"e"' in text


def test_tokens_are_ids_without_a_tokenizer_and_steps_without_ids() -> None:
    assert '2:"#7" 1:"#15"' in printed(trajectory(), with_pieces=False)
    assert "order     2 1 | 2 3 0\n" in printed(trajectory(canvas_ids=[]), with_pieces=False)
    assert "order" not in printed(trajectory(canvas_ids=[], step_map=[], num_response=0))


REVISIONS = [
    {"step": 1, "position": 0, "token": 3, "logprob": -0.5, "kind": "write"},
    {"step": 1, "position": 2, "token": 15, "logprob": -0.5, "kind": "write"},
    {"step": 2, "position": 2, "token": 1, "logprob": 0.0, "kind": "remask"},
]


def test_earlier_writes_stand_before_the_one_that_stands() -> None:
    record = trajectory(revisions=REVISIONS, step_map=[2, 1, 3, 3, 0])
    shown = 'order     1:"1">2:"5" 1:";" | 1:";">2:_>3:"-" 3:"1" 0:"<eos>"\n'
    TEXTS[1] = "<mask>"
    assert shown in printed(record)
    grid = ["prompt", "tail", "5", ";", "-", "1", "<eos>", "f", "1", ";", "<mask>"]
    found = record | {"pieces": grid, "canvas_ids": [*record["canvas_ids"][:5], 9]}
    assert shown in printed(found, with_pieces=False)
    text = printed(record, force_terminal=True, color_system="truecolor")
    assert "\x1b[4;38;2;60;170;70m5\x1b[0m" in text and "\x1b[4m  written again\x1b[0m" in text
    assert "written again" not in printed(trajectory(), force_terminal=True)


def test_images_are_named_in_the_places_of_their_markers() -> None:
    named = [{"name": name, "digest": "0" * 32} for name in ("a.png", "b\x1b.png")]
    content = "look: <image>\nand <image>?"
    record = trajectory()
    record["prompt"]["messages"] = [{"role": "user", "content": content, "images": named}]
    text = printed(record)
    assert "look: [a.png]" in text and "and [b␛.png]?" in text and "<image>" not in text


def test_control_characters_are_pictures() -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eab\r\n[bold]c[/bold]"
    assert visible(hostile) == "␛[2J␛]0;owned␇\ufffd31m\ufffdab␍\n[bold]c[/bold]"
    record = trajectory(text=hostile, canvas_ids=[], parts={"\x1b[1m": 1.0})
    record["prompt"]["messages"][0]["content"] = hostile
    for is_terminal in (True, False):
        out = printed(record, force_terminal=is_terminal, no_color=True)
        assert "\x1b[2J" not in out
        assert "\x07" not in out
        assert "[bold]c[/bold]" in out


def test_token_rewards_are_summed_over_steps_and_a_missing_reward_is_stated() -> None:
    record = trajectory() | {"reward": [0.5, 0.25, 0.0, 0.0, 0.0]}
    assert "reward 0.5," in printed(record)
    assert "no reward," in printed(trajectory() | {"reward": None})


def test_worst_best_and_a_sample() -> None:
    records = [trajectory(reward=reward, text=str(reward)) for reward in (0.5, 0.0, 1.0, 0.25)]
    assert [r["reward"] for r in choose(records, "worst", 2)] == [0.0, 0.25]
    assert [r["reward"] for r in choose(records, "best", 2)] == [1.0, 0.5]
    assert choose(records, "sample", 9) == records
    drawn = choose(records, "sample", 2)
    assert drawn == choose(records, "sample", 2)
    assert len(drawn) == 2


def test_records_without_rewards_cannot_be_sorted() -> None:
    with pytest.raises(ValueError, match=r"--worst: there are no rewards .* --sample 3"):
        choose([trajectory() | {"reward": None}], "worst", 3)


def test_records_of_a_step_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.jsonl"
    write_lines(path, [trajectory(step, reward) for step in (1, 2, 3) for reward in (0.0, 1.0)])
    assert [r["step"] for r in read_step(path, 2)] == [2, 2]
    assert [r["step"] for r in read_step(path)] == [3, 3]
    with pytest.raises(ValueError, match=r"--step 9: .* it has steps 1 to 3"):
        read_step(path, 9)
    path.write_text("")
    with pytest.raises(ValueError, match="it is empty"):
        read_step(path)
    with pytest.raises(ValueError, match=r"no such file; .* run.trajectories = 0"):
        read_step(tmp_path / "absent.jsonl")


def test_responses_of_an_evaluation_have_their_sampling_and_grading(
    tmp_path: Path,
) -> None:
    name = {"variation": "static", "problem": 3, "sample": 0}
    write_lines(tmp_path / "trajectories.jsonl", [trajectory(0, reward=None, **name)])  # type: ignore[arg-type]
    (tmp_path / "gradings" / "1").mkdir(parents=True)
    verdict = {**name, "reward": 0.25, "parts": {}}
    write_lines(tmp_path / "gradings" / "1" / "verdicts.jsonl", [verdict])
    (record,) = read_step(tmp_path / "trajectories.jsonl")
    assert printed(record).startswith("#1  static, problem 3, reward 0.25, 5 tokens")
