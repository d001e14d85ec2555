"""The page of several runs has one chart per metric, with one colour per run, and states what differs."""

import json
from pathlib import Path

import pytest

from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE, metrics, write_lines, write_run
from unmask.viewer.comparison import write_comparison


def compared(tmp_path: Path, *runs: Path) -> Page:
    return Page(write_comparison(runs, tmp_path / "page.html").read_text())


def test_curves_of_a_metric_share_a_chart(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, num_steps=n) for name, n in (("a", 40), ("b", 30)))
    write_lines(b / "metrics.jsonl", metrics(30)[9:])
    page = compared(tmp_path, a, b)
    data = page.data("charts-data")
    assert data["steps"] == list(range(1, 41))
    titles = [e.text for e in page.all("h3")]
    assert {"Accuracy, held out", "Reward, rollouts", "Loss", "KL"} <= set(titles)
    loss = data["charts"][titles.index("Loss")]["lines"]
    assert [(line["label"], line["colour"]) for line in loss] == [("a", 0), ("b", 1)]
    # Run b has no first 9 steps: its curve begins at the tenth of the common axis.
    assert "at" not in loss[0] and loss[1]["at"] == list(range(9, 30))
    assert loss[1]["values"] == [float(f"{1 / step:.4g}") for step in range(10, 31)]


def test_a_reward_that_is_the_accuracy_in_every_run_is_drawn_once(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, num_steps=3) for name in "ab")
    rows = [{"step": s, "accuracy": s / 4, "reward": s / 4} for s in range(1, 4)]
    for run in (a, b):
        write_lines(run / "metrics.jsonl", rows)
    page = compared(tmp_path, a, b)
    assert [e.text for e in page.all("h3")] == ["Accuracy, rollouts"]
    assert "The same numbers: reward." in page.text
    write_lines(b / "metrics.jsonl", [{**row, "reward": 1.0} for row in rows])
    titles = [e.text for e in compared(tmp_path, a, b).all("h3")]
    assert titles == ["Accuracy, rollouts", "Reward, rollouts"]


def test_headlines_stand_in_one_table(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, num_steps=n) for name, n in (("a", 40), ("x/b", 20))]
    page = compared(tmp_path, *runs)
    (table,) = page.all("div", "runs")
    assert table.parents[-1] == "section"
    assert {"a", "x/b", "held-out accuracy"} <= {e.text for e in page.elements}
    assert [e.attributes["class"] for e in page.all("i")] == ["mark-0", "mark-1"]


def test_keys_that_differ_are_listed(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name) for name in "ab")
    assert "No key differs." in compared(tmp_path, a, b).text
    config = json.loads((a / "config.json").read_text())
    config["run"]["seed"] = 6
    (b / "config.json").write_text(json.dumps(config))
    page = compared(tmp_path, a, b)
    assert "1 keys differ" in page.text
    assert {"run.seed", "5", "6"} <= {e.text for e in page.all("th") + page.all("td")}


def test_evaluations_share_table_and_chart(tmp_path: Path) -> None:
    page = compared(tmp_path, *(write_run(tmp_path / name, kind="eval") for name in "ab"))
    (points,) = page.data("charts-data")["charts"]
    assert [point["label"] for point in points["points"]] == ["a, dynamic", "b, dynamic"]


def test_names_of_runs_are_text_and_damage_is_stated(tmp_path: Path) -> None:
    hostile = write_run(tmp_path / HOSTILE[1].replace("/", ""))
    with (hostile / "metrics.jsonl").open("a") as file:
        file.write("nonsense\n")
    page = compared(tmp_path, write_run(tmp_path / "a"), hostile)
    assert not page.all("img") and len(page.all("script")) == 4
    assert "1 damaged line left out" in page.text


def test_a_run_is_given_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    with pytest.raises(ValueError, match="given twice"):
        compared(tmp_path, run, tmp_path / "." / "a")
