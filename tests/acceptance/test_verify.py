"""`unmask verify`: a sound checkpoint passes, a broken one fails, and the report holds nothing private."""

import json
import shutil
import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.engine.golden_traces import golden_traces
from tests.evaluation.published_code import with_code
from tests.models.families.test_lladav import MASK as LLADAV_MASK
from tests.models.toy import GOLDEN
from tests.toy import toy_checkpoint
from unmask.acceptance.verify import (
    EXACT,
    HALF,
    SINGLE,
    VerifyParams,
    bounds_of,
    check_engine,
    check_finite,
    verify,
)
from unmask.cli import main as cli
from unmask.configs.model import ModelConfig
from unmask.engine.llm import LLM
from unmask.models.families import families
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

CHARACTERS = "".join(sorted(set(string.printable) - set("\r\x0b\x0c")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("secret_folder") / "toy-chat"
    return toy_checkpoint(place, CHARACTERS, max_length=512)


def params(path: Path, max_tokens: int = 8, **changes: Any) -> VerifyParams:
    ours = {name: changes.pop(name, None) for name in ("preset", "published")}
    return VerifyParams(ModelConfig(path=str(path), **changes), max_tokens, **ours)


def test_a_sound_checkpoint_passes_and_its_report_is_short(checkpoint: Path) -> None:
    report = verify(params(checkpoint))
    lines = report.text().splitlines()
    assert report.passed
    assert [check.name for check in report.checks] == ["finite logits", "engine = reference"]
    assert lines[0] == "unmask verify toy-chat"
    assert lines[-1] == "Every check passed."
    assert len(lines) < 20
    assert "secret_folder" not in report.text()
    facts = dict(report.facts)
    assert facts["family"].startswith("sdar: 2 layers of width 32, 4/2 heads of 8, 99 ids")
    assert (facts["number format"], facts["prompts"]) == ("float32", "no chat template")
    assert facts["preset"] == "sdar, dynamic, temperature 1"
    assert f"torch {torch.__version__}" in facts["versions"]


def test_preset_number_format_and_block_can_be_chosen(checkpoint: Path) -> None:
    chosen = params(checkpoint, preset="llada2", dtype="bfloat16", block_size=8)
    report = verify(chosen)
    assert report.passed
    facts = dict(report.facts)
    assert facts["preset"] == "llada2, dynamic, temperature 0"
    assert facts["number format"] == "bfloat16"
    assert "block 8" in facts["family"]


@pytest.mark.parametrize("family", [family.name for family in families()])
def test_published_weights_of_every_family_pass(family: str) -> None:
    mask_id = LLADAV_MASK
    if family != "lladav":  # its traces are about images: `tests/models/vision`
        (trace, *_) = (p.values[0] for p in golden_traces(family))
        mask_id = trace.mask_id
    report = verify(params(GOLDEN / family, mask_id=mask_id, max_tokens=16))
    assert report.passed
    assert dict(report.facts)["prompts"] == (
        "chat template" if family == "lladav" else "token ids drawn at random, no tokenizer"
    )


def test_a_tokenizer_without_the_characters_is_reported(tmp_path: Path) -> None:
    report = verify(params(toy_checkpoint(tmp_path / "digits")))
    assert report.passed
    assert "drawn at random, cannot encode 'What is 7 + 5?" in report.text()


def test_logits_that_are_no_numbers_fail(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "sdar", tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, tmp_path / "broken" / "model.safetensors")
    report = verify(params(tmp_path / "broken"))
    assert not report.passed
    assert [check.name for check in report.checks] == ["finite logits"]
    assert report.text().endswith("FAILED: finite logits.")
    assert not check_finite([torch.tensor([[1.0, float("inf")]])]).passed


def test_an_engine_that_writes_something_else_fails(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its answer and the reference's, the weights change: what a stale cache would do."""
    llm = LLM(checkpoint)
    prompts = [Prompt("verify", 0, (), (5, 6, 7))]
    greedy = SamplingParams(temperature=0.0, max_tokens=8)
    assert check_engine(llm, prompts, greedy).passed
    complete = llm.complete

    def complete_then_change(
        prompts: Sequence[Prompt], sampling: Sequence[SamplingParams]
    ) -> list[Trajectory]:
        written = complete(prompts, sampling)
        with torch.no_grad():
            llm.model.head.projection.weight.copy_(llm.model.head.projection.weight.roll(1, 0))
        return written

    monkeypatch.setattr(llm, "complete", complete_then_change)
    found = check_engine(llm, prompts, greedy)
    assert not found.passed
    assert "1 of them differ, at a decision with a gap of" in found.found


def test_bounds_follow_device_and_number_format() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert bounds_of(cpu, torch.float32) == bounds_of(cpu, torch.float64) == EXACT
    assert bounds_of(cuda, torch.float32) == SINGLE
    assert bounds_of(cuda, torch.bfloat16) == bounds_of(cpu, torch.bfloat16) == HALF


def test_published_code_is_run_only_when_asked_for(tmp_path: Path) -> None:
    directory = with_code("sdar", tmp_path / "sdar", "seen = seen.tril()")
    assert verify(params(directory)).passed
    assert not (directory / "was_run").exists()
    report = verify(params(directory, published=sys.executable))
    assert (directory / "was_run").exists()
    assert [check.passed for check in report.checks] == [True, True, False]
    (failed,) = (check for check in report.checks if not check.passed)
    assert "same top-1 at" in failed.found
    assert "config.json was written by transformers 4.52.4" in failed.found


def test_published_code_that_fails_is_a_failed_check_without_paths(tmp_path: Path) -> None:
    directory = with_code("sdar", tmp_path / "sdar")
    python = tmp_path / "python"
    error = f"OSError: {directory}/x, {Path.home()}/y, (/opt/a-b/z.py): 3/4"
    python.write_text(f"#!/bin/sh\necho '{error}' >&2; exit 1\n")
    python.chmod(0o755)
    report = verify(params(directory, published=str(python)))
    assert "it returned no logits: OSError: x, y, (z.py): 3/4;" in report.checks[-1].found
    assert not report.passed


def unmask(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["unmask", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_command(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "verify.txt"
    words = ("verify", checkpoint, "--max-tokens", 4, "--out", out)
    assert unmask(monkeypatch, *words) == 0
    assert capsys.readouterr().out == out.read_text()
    assert unmask(monkeypatch, *words, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads(out.read_text())
    assert [check["passed"] for check in report["checks"]] == [True, True]
    shutil.copytree(GOLDEN / "sdar", tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["lm_head.weight"][0] = float("nan")
    save_file(weights, tmp_path / "broken" / "model.safetensors")
    assert unmask(monkeypatch, "verify", tmp_path / "broken") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-tokens", 0], "max_tokens = 0: must be at least 1"),
        (["--preset", "x"], "preset = 'x': must be one of sdar, "),
        (["--published"], "--published: auto_map in "),
        (["--published-python", "p"], "--published-python p: goes with --published"),
        (["--out", "no/such/report.txt"], "--out no/such/report.txt: no such directory"),
        (["--mask-id", 999], "mask_id = 999: outside the 99 ids of the model"),
    ],
)
def test_mistakes_are_reported_before_anything_runs(
    words: list[object],
    message: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "auto_map" not in json.loads((checkpoint / "config.json").read_text())
    assert unmask(monkeypatch, "verify", checkpoint, *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
