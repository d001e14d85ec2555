"""The head of the page names the run, its progress and its most important figures."""

from pathlib import Path

import pytest

from tests.viewer.toy_run import write_run
from unmask.runs.read import RunFiles, read_run
from unmask.viewer.headline import facts, state, tiles, title


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("rl", "Reinforcement learning on chain_sum"),
        ("sft", "Supervised fine-tuning on chain_sum"),
        ("eval", "Evaluation on chain_sum"),
    ],
)
def test_title(tmp_path: Path, kind: str, words: str) -> None:
    assert title(read_run(write_run(tmp_path, kind=kind))) == words


def test_title_names_the_file_of_demonstrations() -> None:
    config = {"task": None, "data": {"path": "a/mine.jsonl"}}
    assert title(RunFiles(Path(), config)) == "Supervised fine-tuning on mine.jsonl"
    assert title(RunFiles(Path())) == "Run"


def test_facts(tmp_path: Path) -> None:
    found = dict(facts(read_run(write_run(tmp_path))))
    assert (found["model"], found["seed"]) == ("a/model", "5")
    assert found["started"] == "2026-11-20 10:20 UTC"


def test_state(tmp_path: Path) -> None:
    files = read_run(write_run(tmp_path / "whole"))
    assert state(files, is_running=False) == "finished, step 40 of 40"
    config = {**files.config, "steps": 100}
    cut = RunFiles(tmp_path, config, metrics=files.metrics)
    assert state(cut, is_running=False) == "stopped at step 40 of 100"
    assert state(cut, is_running=True) == "running, step 40 of 100"
    evaluation = read_run(write_run(tmp_path / "eval", kind="eval"))
    assert state(evaluation, is_running=False) == "finished"
    assert state(evaluation, is_running=True) == "running"
    assert state(RunFiles(tmp_path), is_running=False) == "no result yet"


def test_tiles_of_training(tmp_path: Path) -> None:
    files = read_run(write_run(tmp_path))
    shown = {tile.name: tile for tile in tiles(files, is_running=False)}
    assert shown["held-out accuracy"].value == "100 %"
    assert shown["held-out accuracy"].note == "step 40; 95 %: 90 % to 100 %; 25 % at step 10"
    assert shown["reward"].value == "0.8875"
    assert shown["reward"].note == "mean of the last 10 steps; 0.1375 of the first"
    assert shown["time in steps"].value == "32 s"
    assert "loss" not in shown


def test_tiles_of_an_evaluation(tmp_path: Path) -> None:
    files = read_run(write_run(tmp_path, kind="eval"))
    assert [(tile.name, tile.value, tile.note) for tile in tiles(files, is_running=False)] == [
        ("accuracy", "75 %", "95 %: 70 % to 80 %"),
        ("tokens per denoising step", "1.5", "95 %: 1.25 to 1.75"),
        ("tokens per forward", "1.4", "95 %: 1.2 to 1.6"),
        ("problems", "636", "2 responses each"),
        ("response tokens", "12.5", "mean"),
        ("truncated", "2 %", "ended by max_tokens"),
    ]


def test_tiles_of_several_samplings_are_their_accuracies(tmp_path: Path) -> None:
    samplings = {name: {"accuracy": value} for name, value in (("a", 0.5), ("b", 0.25))}
    found = tiles(RunFiles(tmp_path, samplings=samplings), is_running=False)
    assert [(t.name, t.value) for t in found] == [("accuracy, a", "50 %"), ("accuracy, b", "25 %")]


def test_remaining_time(tmp_path: Path) -> None:
    files = read_run(write_run(tmp_path))
    half = RunFiles(tmp_path, {**files.config, "steps": 80}, metrics=files.metrics)
    (time,) = (tile for tile in tiles(half, is_running=True) if tile.name == "time in steps")
    assert time.note == "about 32 s to go"
