"""The table of `docs/gpu.md` is what the committed results say, and no rehearsal stands in it."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

from tools.gpu import page
from tools.gpu.harness import FIRST, Listed, list_parts
from tools.gpu.results import Code, Result, write_json

MACHINE = {"card": "H200", "driver": "1", "torch": "2.11.0", "triton": "3.6.0", "cuda": "13.0"}


@cache
def listed() -> list[Listed]:
    return list_parts()


def part(name: str) -> Listed:
    return Listed(name, f"title | {name}", "speed", 1.0, True, "", "")


def result(name: str, **changes: object) -> Result:
    fields = {"status": "measured", "summary": "9 tokens/s", "device": "cuda", "is_tiny": False}
    code = Code("abc", "0")
    date = "2026-12-01T10:00:00+00:00"
    own = {"name": name, "title": "t", "group": "speed", "seconds": 1.0, "machine": MACHINE}
    return Result(**{**own, **fields, "code": code, "date": date, **changes})


def test_the_page_shows_the_committed_results() -> None:
    text = page.PAGE.read_text()
    before, after = page.outside(text)
    assert text == before + page.tables(listed(), page.measured()) + after, (
        "run: python tools/gpu_check --table"
    )


def test_every_part_can_be_imported() -> None:
    assert not [part.traceback for part in listed() if part.traceback]


def test_the_most_valuable_parts_exist() -> None:
    assert set(FIRST) <= {part.name for part in listed()}


def test_a_part_without_a_result_was_never_run() -> None:
    text = page.tables([part("a"), part("b")], {"a": result("a")})
    assert "| `a` | title \\| a | 9 tokens/s | H200, driver 1, torch 2.11.0, triton 3.6.0, " in text
    assert "2026-12-01, abc |" in text
    assert "| `b` | title \\| b | never run |  |" in text


def test_a_failure_stands_as_one() -> None:
    text = page.tables([part("a")], {"a": result("a", status="failed", summary="off by 2")})
    assert "failed: off by 2" in text


def test_a_rehearsal_never_stands_in_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [result("a"), result("b", device="cpu"), result("c", is_tiny=True)]
    write_json(tmp_path / "gpu_check.json", {r.name: asdict(r) for r in found})
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert list(page.measured()) == ["a"]


def test_the_overview_counts_by_group() -> None:
    text = page.overview([part("a"), part("b")], {"a": result("a")})
    assert "| How fast is it | 2 | 0 | 0 | 1 | 1 | H200, torch 2.11.0 |" in text
    assert "| Does it learn | 0 | 0 | 0 | 0 | 0 | - |" in text
