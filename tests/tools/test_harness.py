"""`tools/gpu_check` on parts that pass, fail, hang, end their process, or need another torch."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.tools.fake_parts import write_all
from tools.gpu.harness import Listed, Plan, Session, chosen, run_parts, show
from tools.gpu.results import Code, Result, Store, read_results

Ran = tuple[Plan, dict[str, Result], str]


def run(plan: Plan) -> Ran:
    """Return the plan, the results by part, and what was printed."""
    printed = StringIO()
    console = Console(file=printed, width=130)
    results = run_parts(plan, console)
    show(results, console)
    return plan, {result.name: result for result in results}, printed.getvalue()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Return the run of all fake parts; a process starts slowly, so most tests read this one."""
    place = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place / "path"))
        patch.syspath_prepend(str(place / "path"))
        yield run(write_all(place))


@pytest.fixture
def copied(first: Ran, tmp_path: Path) -> Plan:
    """Return a plan whose folder holds the merged file of the first run, and nothing else."""
    plan = replace(first[0], out=tmp_path, parts=tmp_path / "parts")
    shutil.copy(first[0].out / "gpu_check.json", tmp_path)
    return plan


def test_each_part_costs_itself_only(first: Ran) -> None:
    _, results, _ = first
    assert {name: result.status for name, result in results.items()} == {
        "breaks": "passed",
        "broken": "failed",
        "ends": "failed",
        "hangs": "failed",
        "leaves": "measured",
        "newer": "not run",
        "number": "measured",
        "raises": "failed",
        "right": "passed",
        "wrong": "failed",
    }
    assert results["right"].passed and results["wrong"].passed is False
    assert results["number"].passed is None


def test_a_failure_keeps_its_traceback(first: Ran) -> None:
    _, results, printed = first
    assert results["raises"].summary == "ValueError: sizes differ"
    assert "in run" in results["raises"].traceback
    assert results["broken"].summary == "ModuleNotFoundError: No module named 'no_such_module'"
    assert "ValueError: sizes differ" in printed
    assert len(printed) < 12_000


def test_a_part_that_ends_the_process_keeps_its_last_output(first: Ran) -> None:
    assert first[1]["ends"].summary == "the process ended: exit code 7"
    assert "last words" in first[1]["ends"].traceback


def test_a_part_over_its_limit_is_killed_with_all_it_started(first: Ran) -> None:
    found = first[1]["hangs"]
    assert found.summary.startswith("stopped after")
    assert "in run" in found.traceback, "the log shows where it stood"
    child = re.search(r"child (\d+)", found.traceback)
    assert child is not None
    stat = Path(f"/proc/{child[1]}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_process_whose_device_is_broken_is_replaced(first: Ran) -> None:
    assert f"last words of {first[1]['breaks'].figures['pid']}\n" not in first[1]["ends"].traceback


def test_a_part_leaves_nothing_to_the_next(first: Ran) -> None:
    assert first[1]["number"].summary == "None torch.float32"


def test_a_part_for_a_newer_torch_is_not_run(first: Ran) -> None:
    version = ".".join(torch.__version__.split(".")[:2])
    assert first[1]["newer"].summary == f"torch {version}"


def test_every_result_is_in_its_own_file_and_in_the_merged_one(first: Ran) -> None:
    plan, results, _ = first
    merged = read_results(plan.out / "gpu_check.json")
    assert merged == results
    assert merged["right"].figures["nan"] == "nan", "JSON has no NaN"
    for name in results:
        own = json.loads((plan.parts / f"{name}.json").read_text())
        assert own["summary"] == results[name].summary
        assert own["machine"].keys() == {"card", "driver", "torch", "cuda", "python", "triton"}
        assert own["code"]["source"] and own["date"].endswith("+00:00")
    assert not list(plan.out.rglob("*.tmp"))


def test_finished_parts_are_kept_and_failed_ones_run_again(first: Ran, copied: Plan) -> None:
    _, again, printed = run(replace(copied, only=["right", "wrong"]))
    assert "(kept)" in printed and again["right"] == first[1]["right"]
    assert [file.name for file in copied.parts.iterdir()] == ["wrong.json"], "only this one was run"


def test_a_result_of_other_code_card_or_torch_is_not_kept(first: Ran, copied: Plan) -> None:
    store = Store(copied.out, copied.parts, "cpu", True)
    source, machine = first[1]["right"].code.source, dict(first[1]["right"].machine)
    assert store.finished("right", source, {**machine, "driver": "2"}) is not None
    assert store.finished("right", "0" * 16, machine) is None
    assert store.finished("right", source, {**machine, "torch": "9.9"}) is None
    assert store.finished("right", source, {**machine, "card": "H100"}) is None
    assert store.finished("wrong", source, machine) is None, "a failed part is run again"


def test_not_run_replaces_no_earlier_result(first: Ran, copied: Plan) -> None:
    store = Store(copied.out, copied.parts, "cpu", True)
    store.write(replace(first[1]["wrong"], status="not run", summary="no time left"))
    assert read_results(copied.out / "gpu_check.json")["wrong"].status == "failed"


@pytest.mark.parametrize(("device", "is_tiny"), [("cuda", True), ("cpu", False)])
def test_a_folder_of_another_device_or_size_is_refused(
    copied: Plan, device: str, is_tiny: bool
) -> None:
    with pytest.raises(ValueError, match="holds results of --device cpu --tiny"):
        Store(copied.out, copied.parts, device, is_tiny)


def test_no_part_runs_after_the_budget(first: Ran, tmp_path: Path) -> None:
    plan = replace(first[0], out=tmp_path, parts=tmp_path, only=["hangs", "right"])
    session = Session(plan, Store(tmp_path, tmp_path, "cpu", True), Code("", ""))
    session.end = time.monotonic() + 0.5  # without the start of the process
    listed = {part.name: replace(part, limit_s=600.0) for part in session.worker.listed}
    console = Console(quiet=True)
    found = [session.take(listed[name], console) for name in ("hangs", "right")]
    session.worker.close()
    assert [result.status for result in found] == ["not run", "not run"]
    assert found[0].summary.startswith("no time left: stopped after")
    assert found[1].summary == "no time left"


def test_an_unknown_part_is_refused_by_name(first: Ran) -> None:
    with pytest.raises(
        ValueError, match="--only nothing: no part has this name; breaks, broken, ends"
    ):
        run(replace(first[0], only=["nothing"]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="holds where there is no GPU")
def test_a_missing_device_is_refused(first: Ran, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        run(replace(first[0], device="cuda", out=tmp_path, parts=tmp_path, only=["right"]))


def test_the_most_valuable_parts_come_first(first: Ran) -> None:
    def part(name: str, group: str, limit_s: float = 9.0, is_default: bool = True) -> Listed:
        return Listed(name, "", group, limit_s, is_default, "", "")

    last = part("last", "correctness", is_default=False)
    listed = [last, part("fourth", "learning"), part("third", "speed")]
    listed += [part("quickstart", "learning"), part("engine_4b", "speed")]
    listed += [part("second", "correctness"), part("first", "correctness", 1.0)]
    everything = [p.name for p in chosen(listed, replace(first[0], is_all=True))]
    assert everything == [
        *("first", "second", "engine_4b", "quickstart", "third", "fourth", "last")
    ]
    assert chosen(listed, first[0]) == chosen(listed[1:], first[0])
