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
    kind: str, dtype: torch.dtype, directory: Path, saved_after: int | None, **toy: Any
) -> tuple[Model, dict[str, Tensor], list[float]]:
    """Take six updates, by a second learner from `saved_after` on; return model, state and losses."""
    model = toy_model(0, dtype, **toy)
    learner = Learner(model, config_of(kind))
    losses: list[float] = []
    for step in range(6):
        if step == saved_after:
            directory.mkdir(exist_ok=True)
            save_tensors(learner.state(), directory / "optimizer.safetensors")
            weights, count = model.state_dict(), learner.num_updates
            model = toy_model(1, dtype, **toy)  # other weights, which the saved ones replace
            model.load_state_dict(weights)
            learner = Learner(model, config_of(kind))
            learner.restore(load_file(directory / "optimizer.safetensors"), count)
        views = supervised_views(length=10 + step)
        losses.append(learner.update(views, OBJECTIVE, 30.0, 1e-2 / (1 + step)).loss)
    return model, learner.state(), losses


def assert_resumes_to_the_bit(kind: str, dtype: torch.dtype, directory: Path, **toy: Any) -> None:
    """Compare weights, state and losses of a learner that was saved with those of one that was not."""
    whole, state, losses = trained(kind, dtype, directory, None, **toy)
    parts, resumed_state, resumed_losses = trained(kind, dtype, directory, 3, **toy)
    assert losses == resumed_losses and losses[-1] < losses[0]
    for mine, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert state.keys() == resumed_state.keys()
    assert all(torch.equal(state[name], resumed_state[name]) for name in state)
