"""Checkpoints: what a checkpoint holds, when it is written, and what errors and signals leave."""

import json
import os
import resource
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainers.toy_runs import sft_config, supervised_views
from unmask import load_model
from unmask.configs.sft import SFTConfig
from unmask.data.shuffled import Shuffled
from unmask.distributed.world import ALONE, World
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.models.transformer import Model
from unmask.runs.directory import RunDirectory, open_run
from unmask.runs.manifest import write_manifest
from unmask.runs.signals import Stopped
from unmask.tasks.build import build_task
from unmask.trainers.checkpointer import Checkpointer
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective
from unmask.trainers.start import Start, checkpoints, starting_model

VIEWS = supervised_views()
LIKELIHOOD = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Work:
    """A run whose steps are taken by hand."""

    checkpointer: Checkpointer
    llm: LLM
    learner: Learner
    source: Shuffled[int]

    def update(self) -> float:
        """Train on the next two of four demonstrations, and return the loss."""
        views = [VIEWS[draw.item] for draw in self.source.draw(2)]
        loss = self.learner.update(views, LIKELIHOOD, 20.0).loss
        self.llm.engine.update_weights(self.learner.whole_weights())
        return loss

    def step(self, **metrics: float) -> float:
        """Take a whole step, and return its loss."""
        number = self.checkpointer.step + 1
        loss = self.update()
        self.checkpointer.on_step_end(number, metrics)
        return loss


def begin(place: Path, *words: str, world: World = ALONE) -> Work:
    """Start a run, or go on with the one that is there."""
    config = sft_config(place, "steps=9", *words)
    llm = build_llm(starting_model(config), config.engine)
    source = Shuffled(range(len(VIEWS)), config.run.seed)
    learner = Learner(llm.model, config.optimizer, world=world)
    if world.is_main:
        open_run(
            config, resume=True
        ).close()  # a test opens the run again before its first work ends
    start = Start(config, True, llm, build_task(config.task))
    run = RunDirectory(config.run.dir)
    return Work(Checkpointer(run, start, source, learner, world=world), llm, learner, source)


def weights(model: Model | Path) -> torch.Tensor:
    loaded = load_model(model) if isinstance(model, Path) else model
    return torch.cat([p.detach().flatten().clone() for p in loaded.parameters()])


def steps(place: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in checkpoints(place / "run")]


@contextmanager
def full_disk(limit: int = 20_000) -> Generator[None, None, None]:
    """No file may grow past `limit` bytes: the weights do not fit, small files do."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_holds_model_optimizer_and_state(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=2")
    work.step(eval_reward=0.25)
    assert steps(tmp_path) == []
    work.step()
    (place,) = checkpoints(tmp_path / "run")
    names = {"model", "optimizer.safetensors", "state.json", "manifest.json"}
    assert {p.name for p in place.iterdir()} == names
    assert json.loads((place / "state.json").read_text()) == {
        "step": 2,
        "num_updates": 2,
        "policy_version": 2,
        "source": {"dealt": 4, "items": 4},
        "best": 0.25,
    }
    assert torch.equal(weights(place / "model"), weights(work.llm.model))
    names = [name for name, _ in work.llm.model.named_parameters()]
    kinds = ("exp_avg", "exp_avg_sq", "step")
    held = load_file(place / "optimizer.safetensors")
    assert set(held) == {f"{kind}/{name}" for kind in kinds for name in names}


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=1", "run.keep_last=2")
    for _ in range(4):
        work.step()
    assert steps(tmp_path) == [3, 4]
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob("*.*")] == []


def test_the_last_step_is_saved_also_when_no_other_is(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=0", "steps=3")
    for _ in range(3):
        work.step()
    assert steps(tmp_path) == [3]


def test_best_is_written_when_accuracy_rises_and_only_then(tmp_path: Path) -> None:
    work, best = begin(tmp_path, "save_every=2"), tmp_path / "run" / "best"
    work.step()
    assert not best.exists()
    work.step(eval_reward=0.5)
    top = weights(work.llm.model)
    for accuracy in (0.5, 0.25):
        work.step(eval_reward=accuracy)
    assert torch.equal(weights(best), top)

    again = begin(tmp_path, "save_every=2")
    again.step(eval_reward=0.5)
    assert torch.equal(weights(best), top)
    again.step(eval_reward=0.75)
    assert torch.equal(weights(best), weights(again.llm.model))


def test_best_has_the_lowest_validation_loss_where_no_task_is_evaluated(tmp_path: Path) -> None:
    work, best = begin(tmp_path, "save_every=2"), tmp_path / "run" / "best"
    work.step(val_nll=0.5)
    top = weights(work.llm.model)
    work.step(val_nll=0.7)
    assert torch.equal(weights(best), top)


def test_the_best_of_the_very_step_that_is_saved_is_not_forgotten(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=1")
    work.step(eval_reward=0.5)
    top = weights(work.llm.model)
    begin(tmp_path, "save_every=1").step(eval_reward=0.4)
    assert torch.equal(weights(tmp_path / "run" / "best"), top)


def test_the_end_leaves_the_last_model(tmp_path: Path) -> None:
    work = begin(tmp_path)
    work.step()
    assert work.checkpointer.finish() == tmp_path / "run" / "model"
    assert torch.equal(weights(tmp_path / "run" / "model"), weights(work.llm.model))


def test_an_export_has_its_tokenizer_when_the_checkpoint_it_was_loaded_from_is_gone(
    tmp_path: Path,
) -> None:
    words = ("save_every=1", "run.keep_last=1")
    begin(tmp_path, *words).step()
    work = begin(tmp_path, *words)
    work.step()
    work.step()
    assert steps(tmp_path) == [3]
    original = {p.name for p in (tmp_path / "checkpoint").iterdir()}
    assert "tokenizer.json" in original
    assert {p.name for p in work.checkpointer.finish().iterdir()} == original | {"manifest.json"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_in_two_parts_is_the_run_in_one_to_the_bit(dtype: str, tmp_path: Path) -> None:
    words = (f"model.dtype={dtype}", "save_every=3", "optimizer.lr=1e-3")
    whole = begin(tmp_path / "whole", *words)
    first = begin(tmp_path / "parts", *words)
    for _ in range(3):
        first.step()
    second = begin(tmp_path / "parts", *words)
    assert (second.checkpointer.step, second.llm.engine.policy_version) == (3, 3)
    for _ in range(3):
        second.step()
    for _ in range(6):
        whole.step()
    assert torch.equal(weights(whole.llm.model), weights(second.llm.model))
    assert not torch.equal(weights(whole.llm.model), weights(first.llm.model))
    state, again = whole.learner.state(), second.learner.state()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert any(name.startswith("master/") for name in state) == (dtype == "bfloat16")


def test_masters_hold_what_the_weights_have_rounded_away(tmp_path: Path) -> None:
    words = ("model.dtype=bfloat16", "save_every=1", "optimizer.lr=1e-6")
    work = begin(tmp_path, *words)
    work.step()
    masters = {k: v for k, v in work.learner.state().items() if k.startswith("master/")}
    assert any(not torch.equal(m, m.bfloat16().float()) for m in masters.values())
    again = begin(tmp_path, *words).learner.state()
    assert all(torch.equal(again[name], master) for name, master in masters.items())


@pytest.mark.parametrize(("then", "now"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_a_checkpoint_in_another_number_format_is_refused(
    then: str, now: str, tmp_path: Path
) -> None:
    work = begin(tmp_path, f"model.dtype={then}", "save_every=1")
    work.step()
    state = work.learner.state()
    config = sft_config(tmp_path, f"model.dtype={now}")
    other = Learner(build_llm(config.model, config.engine).model, config.optimizer)
    with pytest.raises(ValueError, match=rf"model\.dtype: .* torch\.{now}"):
        other.restore(state, num_updates=1)


def test_nothing_learnt_is_a_state_too(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=1")
    work.checkpointer.on_step_end(1, {})  # every group was filtered out
    again = begin(tmp_path, "save_every=1")
    assert again.checkpointer.step == 1
    again.step()
    assert steps(tmp_path) == [1, 2]


def test_an_error_keeps_and_names_the_last_complete_step(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=0")
    with pytest.raises(RuntimeError) as it, work.checkpointer.guard():
        work.step()
        work.step()
        raise RuntimeError("in the rollout")
    assert it.value.__notes__ == ["the state of step 2 is kept: go on by --resume"]
    assert torch.equal(
        weights(checkpoints(tmp_path / "run")[-1] / "model"), weights(work.llm.model)
    )
    assert begin(tmp_path, "save_every=0").checkpointer.step == 2


def test_an_error_after_an_update_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=2")
    with pytest.raises(RuntimeError) as it, work.checkpointer.guard():
        for _ in range(3):
            work.step()
        work.update()
        raise RuntimeError("in the evaluation")
    assert it.value.__notes__ == ["the state of step 2 is kept: go on by --resume"]
    assert steps(tmp_path) == [2]


def test_an_error_in_the_first_step_has_nothing_to_keep(tmp_path: Path) -> None:
    work = begin(tmp_path)
    with pytest.raises(RuntimeError) as it, work.checkpointer.guard():
        raise RuntimeError("at once")
    assert not hasattr(it.value, "__notes__")
    assert steps(tmp_path) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_between_updates_stops_at_once_with_the_last_step(
    number: signal.Signals, tmp_path: Path
) -> None:
    work = begin(tmp_path, "save_every=0")
    with pytest.raises(Stopped) as it, work.checkpointer.guard():
        work.step()
        work.source.draw(2)  # the next step has begun: its rollout
        signal.raise_signal(number)
        pytest.fail("it went on")
    assert (it.value.signal_number, it.value.step) == (number, 1)
    assert json.loads((checkpoints(tmp_path / "run")[0] / "state.json").read_text())["source"] == {
        "dealt": 2,
        "items": 4,
    }


def test_a_signal_in_an_update_stops_after_the_step(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=0")
    with pytest.raises(Stopped) as it, work.checkpointer.guard():
        work.step()
        work.update()
        signal.raise_signal(signal.SIGTERM)
        work.checkpointer.on_step_end(2, {})
        pytest.fail("it went on")
    assert it.value.step == 2
    assert steps(tmp_path) == [2]


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=1")
    with pytest.raises(Stopped) as it, work.checkpointer.guard():
        work.step()
        work.update()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")
    assert it.value.step == 1
    assert steps(tmp_path) == [1]


def test_handlers_are_given_back_whatever_happens(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    work = begin(tmp_path)
    with work.checkpointer.guard():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(Stopped), work.checkpointer.guard():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=1")
    with (
        pytest.raises(OSError, match=r"step-000002: cannot be saved: ") as it,
        work.checkpointer.guard(),
    ):
        work.step()
        with full_disk():
            work.step()
    assert it.value.__notes__ == ["the state of step 2 is kept: go on by --resume"]  # room again
    assert steps(tmp_path) == [1, 2]


def test_a_disk_that_stays_full_is_reported_once(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=1")
    work.step()
    with (
        full_disk(),
        pytest.raises(OSError, match="cannot be saved") as it,
        work.checkpointer.guard(),
    ):
        work.step()
    assert it.value.__notes__ == ["the state of step 1 is kept: go on by --resume"]
    assert steps(tmp_path) == [1]
    assert not [p for p in (tmp_path / "run").rglob("*") if ".tmp-" in p.name]
    assert begin(tmp_path, "save_every=1").checkpointer.step == 1


def test_a_full_disk_hides_no_error_and_a_signal_does_not_hide_it(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=0")
    work.step()
    with full_disk(), pytest.raises(RuntimeError) as it, work.checkpointer.guard():
        raise RuntimeError("in the rollout")
    (note,) = it.value.__notes__
    assert "cannot be saved" in note
    with full_disk(), pytest.raises(OSError, match="cannot be saved"), work.checkpointer.guard():
        signal.raise_signal(signal.SIGTERM)


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    begin(tmp_path, "save_every=1").step()
    (place,) = checkpoints(tmp_path / "run")
    file = place / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"step-000001/optimizer\.safetensors: .* remove .*step-000001 "
    ):
        begin(tmp_path, "save_every=1")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": 1}', '"step"', None])
def test_a_state_that_cannot_be_read_is_named(text: str | None, tmp_path: Path) -> None:
    begin(tmp_path, "save_every=1").step()
    (place,) = checkpoints(tmp_path / "run")
    (place / "state.json").unlink()
    if text is not None:
        (place / "state.json").write_text(text)
    write_manifest(place)
    with pytest.raises(
        ValueError, match=r"step-000001/state\.json: cannot be read: .* remove .*1 "
    ):
        begin(tmp_path, "save_every=1")


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_an_optimizer_of_another_model_is_named(change: str, tmp_path: Path) -> None:
    begin(tmp_path, "save_every=1").step()
    (place,) = checkpoints(tmp_path / "run")
    held = load_file(place / "optimizer.safetensors")
    key = "exp_avg/head.projection.weight"
    if change == "unknown":
        held["exp_avg/adapter.weight"] = held[key].clone()
        key = "exp_avg/adapter.weight"
    else:
        del held[key]
    save_file(held, place / "optimizer.safetensors")
    write_manifest(place)
    with pytest.raises(
        ValueError, match=rf"000001/optimizer\.safetensors: .*'{key}' is missing or"
    ):
        begin(tmp_path, "save_every=1")


def test_lines_are_on_the_disk_before_the_checkpoint_that_follows_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early: set[int] = set()  # what was forced to the disk while there was no checkpoint
    force = os.fsync

    def remember(descriptor: int) -> None:
        force(descriptor)
        if not steps(tmp_path):
            early.add(os.fstat(descriptor).st_ino)

    work = begin(tmp_path, "save_every=1")
    files = [tmp_path / "run" / name for name in ("metrics.jsonl", "trajectories.jsonl")]
    for file in files:
        file.touch()
    monkeypatch.setattr("os.fsync", remember)
    work.step()
    assert {file.stat().st_ino for file in (*files, tmp_path / "run")} <= early
    assert steps(tmp_path) == [1]
