"""Checkpoints of several ranks: whole or absent, and resumed at any number of ranks."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.ranks import on_ranks
from tests.toy import toy_model
from tests.trainers.test_checkpointer import begin, full_disk
from tests.trainers.test_state_files import State, assert_equal, whole_state
from tests.trainers.toy_critics import toy_value_model
from tests.trainers.toy_runs import metrics, rl_config, sft_config
from unmask.checkpoints.value_model_files import export_critic, save_critic
from unmask.configs.optimizer import OptimizerConfig
from unmask.distributed.world import ALONE, AgreedError, World
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.value_model import ActorCritic, ValueModel
from unmask.runs.manifest import damage
from unmask.trainers.learner import Learner
from unmask.trainers.rl import train_rl
from unmask.trainers.start import checkpoints, starting_model


class Parts(NamedTuple):
    """Losses of steps, the state where they began, and where they ended."""

    losses: list[float]
    began: State
    ended: State


def run_parts(world: World, dtype: str, *parts: tuple[Path, int]) -> list[Parts]:
    """Begin or resume the runs of some directories one after the other, and take some steps of each."""
    found: list[Parts] = []
    for place, count in parts:
        words = (f"model.dtype={dtype}", "save_every=0", "optimizer.lr=1e-2", "optimizer.eps=1e-3")
        work = begin(place, *words, world=world)
        began = whole_state(work.learner)
        losses = [work.step() for _ in range(count)]
        work.checkpointer.save()
        weights = {name: p.detach().clone() for name, p in work.llm.model.named_parameters()}
        found.append(Parts(losses, began, weights | whole_state(work.learner)))
    return found


def test_a_run_of_two_ranks_resumes_to_the_bit_and_on_one_within_rounding(tmp_path: Path) -> None:
    """With fp32 copies of bf16 weights in the optimizer's state; test_sharding.py has the other types."""
    dtype = "bfloat16"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for place in (whole, parts):
        sft_config(place)  # writes its files
    found, others = on_ranks(run_parts, dtype, (whole, 4), (parts, 1), (parts, 1))
    for mine, theirs in zip(found, others, strict=True):
        assert mine.losses == theirs.losses
        assert_equal(mine.ended, theirs.ended)
    uninterrupted, first, second = found
    assert first.losses + second.losses == uninterrupted.losses[:2]
    (last,) = checkpoints(parts / "run")[-1:]
    names = {"model", "optimizer", "state.json", "manifest.json"}
    assert {path.name for path in last.iterdir()} == names
    assert not list(damage(last))

    (third,) = run_parts(ALONE, dtype, (parts, 1))
    assert_equal(third.began, {k: v for k, v in second.ended.items() if k in third.began})
    (fourth,), _ = on_ranks(run_parts, dtype, (parts, 1))
    assert_equal(fourth.began, {k: v for k, v in third.ended.items() if k in fourth.began})
    torch.testing.assert_close(
        third.losses + fourth.losses, uninterrupted.losses[2:], rtol=2e-2, atol=2e-2
    )


def save_on_a_full_disk(world: World, place: Path, full: int) -> tuple[str, list[str], list[str]]:
    """Return the error of a save where the disk of one rank is full, its notes, and the checkpoints left."""
    work = begin(place, "save_every=1", world=world)
    work.step()
    with pytest.raises(AgreedError) as it, work.checkpointer.guard():
        if world.rank == full:
            with full_disk():
                work.step()
        else:
            work.step()
    world.gather(None)
    left = [path.name for path in (place / "run" / "checkpoints").iterdir()]
    return str(it.value), it.value.__notes__, sorted(left)


@pytest.mark.parametrize(("full", "named"), [(0, ""), (1, "rank 1: ")])
def test_a_full_disk_of_one_rank_leaves_the_checkpoint_before(
    full: int, named: str, tmp_path: Path
) -> None:
    sft_config(tmp_path)
    for message, notes, left in on_ranks(save_on_a_full_disk, tmp_path, full):
        assert f"step-000002: cannot be saved: {named}" in message
        assert "too large" in message
        assert notes == ["the state of step 2 is kept: go on by --resume"]  # room again
        assert left == ["step-000001", "step-000002"]


def value_model_of(kind: str) -> ValueModel | ActorCritic:
    torch.manual_seed(0)
    if kind == "shared":
        model = ActorCritic(toy_model(num_drawable=24))
        torch.nn.init.normal_(model.value_head.weight)
        return model
    model = toy_value_model(num_drawable=24)
    if kind == "adapters":
        add_lora(model, LoRAParams(targets=("all",), rank=3), seed=1)
        torch.nn.init.normal_(model.backbone.layers[0].attention.q.lora_b)  # pyright: ignore
        model.value_head.requires_grad_(True)
    return model


def write_value_model(world: World, kind: str, place: Path) -> list[str]:
    """Save and export a value model, and return the parameters with memory."""
    learner = Learner(value_model_of(kind), OptimizerConfig(), world=world)
    saved, exported = learner.whole_model(is_trained_only=True), learner.whole_model()
    assert isinstance(saved, ValueModel | ActorCritic) and type(saved) is type(exported)
    assert isinstance(exported, ValueModel | ActorCritic)
    if world.is_main:
        save_critic(saved, place / "saved")
        export_critic(exported, place / "exported")
    return [name for name, p in saved.named_parameters() if not p.is_meta]


@pytest.mark.parametrize("kind", ["own", "adapters", "shared"])
def test_a_sharded_value_model_is_saved_as_that_of_one_process(kind: str, tmp_path: Path) -> None:
    write_value_model(ALONE, kind, tmp_path / "one")
    of_main, of_other = on_ranks(write_value_model, kind, tmp_path / "two")
    expected = [
        name
        for name, p in value_model_of(kind).named_parameters()
        if p.requires_grad and not name.startswith("policy.")
    ]
    assert (of_main, of_other) == (expected, [])
    files = [file for file in (tmp_path / "one").rglob("*") if file.is_file()]
    assert len(files) >= 2
    for file in files:
        other = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.read_bytes() == other.read_bytes(), file.name


def begin_again(world: World, place: Path) -> str:
    with pytest.raises(AgreedError) as it, world.together("checkpoint"):
        starting_model(sft_config(place), world)
    return str(it.value)


def test_a_damaged_part_is_refused_by_all_ranks(tmp_path: Path) -> None:
    sft_config(tmp_path)
    on_ranks(run_parts, "float32", (tmp_path, 1))
    (last,) = checkpoints(tmp_path / "run")
    part = sorted((last / "optimizer").iterdir())[1]
    part.write_bytes(part.read_bytes()[:-1] + b"7")
    for message in on_ranks(begin_again, tmp_path):
        assert f"{part}: is damaged or replaced" in message


CRITICS = {
    "own": ["advantage.kind=value", "advantage.minibatches=2"],
    "shared": ["advantage.kind=shared_value", "lora.rank=3", "optimizer.lr=1e-2"],
}


def train_parts(world: World, place: Path, kind: str) -> list[dict[str, Any]]:
    """Train by RL with a value model, at once and in parts, and return what is left behind of both."""
    words = [*CRITICS[kind], "advantage.lr=1e-3", "minibatches=2", "save_every=1"]
    words += ["run.keep_last=1", "rollout.prompts=2", "rollout.responses=2"]
    found: list[dict[str, Any]] = []
    for name, parts in (("whole", [2]), ("parts", [1, 2])):
        for steps in parts:
            config = rl_config(place, *words, f"steps={steps}", run=name)
            train_rl(config, resume=True, world=world)
        run = place / name
        tensors = {
            f"{file.relative_to(run)}: {name}": tensor
            for file in run.rglob("*.safetensors")
            for name, tensor in load_file(file).items()
        }
        found.append({"metrics": metrics(run), "tensors": tensors})
    return found


@pytest.mark.parametrize("kind", CRITICS)
def test_a_run_with_a_value_model_resumes_to_the_bit(kind: str, tmp_path: Path) -> None:
    rl_config(tmp_path)
    (whole, parts), _ = on_ranks(train_parts, tmp_path, kind)
    assert len(whole["metrics"]) == 2
    assert whole["metrics"] == parts["metrics"]
    assert_equal(whole["tensors"], parts["tensors"])
    folders = {name.split("/")[2] for name in whole["tensors"] if name.startswith("checkpoints")}
    assert {"critic", "optimizer"} <= folders
