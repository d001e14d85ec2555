"""The verdicts of the last grading are laid over the responses."""

from pathlib import Path
from typing import Any

from tests.runs.past_runs import trajectory, write_lines
from unmask.runs.gradings import gradings, key_of, read_verdicts, with_verdict


def verdict(problem: int, reward: float) -> dict[str, Any]:
    return {"variation": "a", "problem": problem, "sample": 1, "reward": reward, "parts": {"p": 2}}


def grade(run: Path, number: int, reward: float) -> None:
    (run / "gradings" / str(number)).mkdir(parents=True)
    write_lines(run / "gradings" / str(number) / "verdicts.jsonl", [verdict(3, reward)])


def test_the_last_grading_counts(tmp_path: Path) -> None:
    for number in (2, 10, 9):
        grade(tmp_path, number, number / 10)
    (tmp_path / "gradings" / "11.tmp-0a1b2c3d").mkdir()
    assert [path.name for path in gradings(tmp_path)] == ["2", "9", "10"]
    assert read_verdicts(tmp_path) == {("a", 3, 1): verdict(3, 1.0)}


def test_a_run_without_gradings_has_no_verdicts(tmp_path: Path) -> None:
    assert gradings(tmp_path) == [] and read_verdicts(tmp_path) == {}


def test_a_verdict_is_laid_over_its_response_alone(tmp_path: Path) -> None:
    grade(tmp_path, 1, 0.5)
    verdicts = read_verdicts(tmp_path)
    mine = trajectory(reward=None, variation="a", problem=3, sample=1)  # type: ignore[arg-type]
    other = {**mine, "problem": 4}
    training = trajectory(reward=0.25)
    assert key_of(mine) == ("a", 3, 1)
    assert with_verdict(mine, verdicts) == {**mine, "reward": 0.5, "parts": {"p": 2}}
    assert with_verdict(other, verdicts) is other
    assert with_verdict(training, verdicts) is training
