"""An evaluation on several ranks has the summary of one process, byte for byte."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.processes import end_ranks, run_ranks, start_ranks
from tests.distributed.ranks import on_ranks
from tests.evaluation.test_evaluate import TWO, lines, measure, words
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.distributed.world import World
from unmask.evaluation import responses
from unmask.evaluation.evaluate import evaluate_model
from unmask.evaluation.rank_files import file_of_rank
from unmask.types import Prompt

MORE = ("samples=3", *TWO)
FINAL = {
    *("protocol.json", "config.json", "environment.json", "summary.json", "speed.json"),
    *("trajectories.jsonl", "gradings", ".lock"),
}


def on_rank(
    world: World, asked: Sequence[str], resume: bool, most: int | None = None
) -> dict[str, Any] | str:
    """Evaluate; return the metrics, or the error. `most` responses of each rank later, it fails."""
    if most is not None:
        append, count = responses.append_lines, 0

        def failing(*arguments: Any) -> None:
            nonlocal count
            count += 1
            if count > most + world.rank:
                raise OSError(f"disk full after {count - 1}")
            append(*arguments)

        responses.append_lines = failing
    try:
        found = evaluate_model(load_config(EvalConfig, [], asked)[0], resume, world)
    except (ValueError, OSError) as error:
        return str(error)
    return {name: summary.to_dict() for name, summary in found.summaries.items()}


def without_times(path: Path) -> list[dict[str, Any]]:
    """Return the responses of a run in the order of their keys, without measurements."""
    found = lines(path / "trajectories.jsonl")
    for record in found:
        del record["wall_s"], record["num_forwards"]
    return sorted(found, key=lambda r: (r["variation"] != "static", r["problem"], r["sample"]))  # pyright: ignore[reportReturnType]


def test_the_run_directory_is_that_of_one_process(tmp_path: Path) -> None:
    size = 3
    measure(tmp_path, *MORE)
    run = tmp_path / "ranks"
    found = on_ranks(on_rank, words(tmp_path, *MORE, f"run.dir={run}"), False, size=size)
    assert found == [found[0]] * size
    alone = tmp_path / "run"
    assert (run / "summary.json").read_bytes() == (alone / "summary.json").read_bytes()
    assert {path.name for path in run.iterdir()} == FINAL
    assert without_times(run) == without_times(alone)
    names = [(r["variation"], r["problem"], r["sample"]) for r in lines(run / "trajectories.jsonl")]
    assert names == [(v, p, s) for v in ("static", "greedy") for p in range(10) for s in range(3)]
    verdicts = [lines(path / "gradings/1/verdicts.jsonl") for path in (run, alone)]
    assert [{**v} for v in verdicts[0]] == sorted(
        verdicts[1], key=lambda v: (v["variation"] != "static", v["problem"], v["sample"])
    )
    speed = json.loads((run / "speed.json").read_text())["samplings"]["static"]
    assert speed["wall_s"] == pytest.approx(
        sum(
            float(str(r["wall_s"]))
            for r in lines(run / "trajectories.jsonl")
            if r["variation"] == "static"
        )
    )
    again = on_ranks(on_rank, words(tmp_path, *MORE, f"run.dir={run}"), True, size=2)
    assert again == found[:2]


@pytest.mark.parametrize("sizes", [(3, 2), (1, 3)])
def test_a_run_that_ended_on_any_rank_is_resumed_at_another_number_of_ranks(
    sizes: tuple[int, int], tmp_path: Path
) -> None:
    measure(tmp_path, *MORE)
    run = tmp_path / "ranks"
    asked = words(tmp_path, *MORE, f"run.dir={run}")
    before, after = sizes
    messages = on_ranks(on_rank, asked, False, 4, size=before)
    assert messages == ["disk full after 4"] * before
    assert not (run / "summary.json").exists()
    kept = {path.name: path.read_bytes() for path in run.glob("trajectories*.jsonl")}
    assert len(kept) == before
    on_ranks(on_rank, asked, True, size=after)
    merged = (run / "trajectories.jsonl").read_bytes()
    assert all(line in merged for content in kept.values() for line in content.splitlines())
    assert (run / "summary.json").read_bytes() == (tmp_path / "run/summary.json").read_bytes()
    assert {path.name for path in run.iterdir()} == FINAL


def stopping(prompt: Prompt, response: str) -> float:
    """Refuse one problem, which one rank alone grades."""
    if "3+3=" in prompt.messages[0].content:
        raise ValueError("cannot read the reference")
    return 1.0


def test_an_error_of_one_rank_is_the_error_of_all(tmp_path: Path) -> None:
    reward = "task.reward=tests.distributed.test_evaluation:stopping"
    asked = words(tmp_path, reward)
    first, second = on_ranks(on_rank, asked, False)
    assert first == second
    assert isinstance(first, str) and "cannot read the reference" in first
    assert not (tmp_path / "run/gradings").exists()
    first, second = on_ranks(on_rank, asked, False)
    assert first == second and "is not empty" in str(first)


def with_other_files(world: World, place: Path) -> dict[str, Any] | str:
    asked = words(place)
    if world.rank == 1:
        other = place / "other.json"
        shutil.copyfile(place / "test.json", other)
        other.write_text(other.read_text().replace("9+9=", "9-9="))
        asked = [word.replace("/test.json", "/other.json") for word in asked]
    return on_rank(world, asked, False)


def test_machines_with_other_problems_are_refused(tmp_path: Path) -> None:
    words(tmp_path)
    found = on_ranks(with_other_files, tmp_path)
    message = (
        "rank 1 has other problems or model settings than rank 0: give all processes the same files"
    )
    assert [str(error)[: len(message)] for error in found] == [message] * 2
    assert not (tmp_path / "run").exists()


def test_a_run_whose_rank_is_killed_is_resumed(tmp_path: Path) -> None:
    more = ("samples=20", *TWO)
    measure(tmp_path, *more)
    killed = tmp_path / "killed"
    asked = words(tmp_path, *more, f"run.dir={killed}", "distributed.timeout_minutes=1")
    processes = start_ranks(["eval", *asked])
    own = file_of_rank(killed / "trajectories.jsonl", 1)
    while not (own.is_file() and own.stat().st_size > 10_000):
        assert processes[1].poll() is None, processes[1].communicate()
        time.sleep(0.003)
    processes[1].kill()
    found = end_ranks(processes)
    assert found[1][0] == -9 and found[0][0] == 2, found
    (line,) = [line for line in found[0][1].splitlines() if line.startswith("error: ")]
    assert line.startswith("error: rank 1 on ")
    assert not (killed / "summary.json").exists()
    measure(tmp_path, *more, f"run.dir={killed}", "distributed.timeout_minutes=1", resume=True)
    assert (killed / "summary.json").read_bytes() == (tmp_path / "run/summary.json").read_bytes()
    assert len(lines(killed / "trajectories.jsonl")) == 400
    assert not [*killed.glob("*.rank*")]


def test_a_signal_of_one_rank_stops_all_and_the_responses_are_kept(tmp_path: Path) -> None:
    asked = words(tmp_path, "task.reward=tests.evaluation.test_evaluate:sigterm")
    first, second = run_ranks(["eval", *asked])
    assert (first[0], second[0]) == (143, 143)
    # torch may warn of the store of rank 0, which has ended.
    assert "stopped" not in second[1] and "error: " not in second[1]
    assert "stopped; the responses are kept; resume with" in first[1]
    assert len(lines(tmp_path / "run/trajectories.jsonl")) == 10
