"""A learner that is saved and restored between two updates, and one that is not."""

from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor

from tests.toy import toy_model
from tests.trainers.toy_runs import supervised_views
from unmask.checkpoints.tensor_files import save_tensors
from unmask.configs.optimizer import Optimizer, OptimizerSection
from unmask.configs.sft import SFTConfig
from unmask.distributed.world import World
from unmask.models.transformer import Model
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective

OBJECTIVE = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))


def config_of(kind: str, **settings: Any) -> OptimizerSection:
    """Return an `[optimizer]` table as the configuration reads it."""
    table = {"kind": kind, "lr": 1e-2, "weight_decay": 0.1, **settings}
    adapter: TypeAdapter[OptimizerSection] = TypeAdapter(Optimizer)
    return adapter.validate_python(table)


def trained(
    kind: str,
    dtype: torch.dtype,
    directory: Path,
    saved_after: int | None,
    offload: bool = False,
    **toy: Any,
) -> tuple[Model, dict[str, Tensor], list[float]]:
    """Take six updates, by a second learner from `saved_after` on; return model, state and losses."""
    model = toy_model(0, dtype, **toy)
    learner = Learner(model, config_of(kind, offload=offload))
    losses: list[float] = []
    for step in range(6):
        if step == saved_after:
            directory.mkdir(exist_ok=True)
            save_tensors(learner.state(), directory / "optimizer.safetensors")
            weights, count = model.state_dict(), learner.num_updates
            model = toy_model(1, dtype, **toy)  # other weights, which the saved ones replace
            model.load_state_dict(weights)
            learner = Learner(model, config_of(kind, offload=offload))
            learner.restore(load_file(directory / "optimizer.safetensors"), count)
        views = supervised_views(length=10 + step)
        losses.append(learner.update(views, OBJECTIVE, 30.0, 1e-2 / (1 + step)).loss)
    return model, learner.state(), losses


def assert_equal(
    one: tuple[Model, dict[str, Tensor], list[float]],
    other: tuple[Model, dict[str, Tensor], list[float]],
) -> None:
    """Compare what `trained` returns to the bit."""
    (first, state, losses), (second, other_state, other_losses) = one, other
    assert losses == other_losses and losses[-1] < losses[0]
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert state.keys() == other_state.keys()
    assert all(torch.equal(state[name], other_state[name]) for name in state)


def assert_resumes_to_the_bit(kind: str, dtype: torch.dtype, directory: Path, **toy: Any) -> None:
    """Compare weights, state and losses of a learner that was saved with those of one that was not."""
    whole = trained(kind, dtype, directory, None, **toy)
    assert_equal(trained(kind, dtype, directory, 3, **toy), whole)


def trained_on_ranks(
    world: World, kind: str, dtype: str, offload: bool
) -> tuple[dict[str, Tensor], list[float], str]:
    """Take three updates together; return weights, losses and the text of the learner's memory."""
    model = toy_model(0, getattr(torch, dtype))
    config = config_of(kind, offload=offload, token_budget=64, eps=1e-3)
    learner = Learner(model, config, world=world)
    losses = [learner.update(supervised_views(), OBJECTIVE, 30.0).loss for _ in range(3)]
    weights = dict(learner.whole_weights()) if world.size > 1 else model.state_dict()
    return {name: w.clone() for name, w in weights.items()}, losses, learner.memory
