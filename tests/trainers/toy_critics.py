"""Value models with values other than 0, what they are trained on, and whole runs with one."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.diffusion.trajectories import random_canvas, random_trajectory
from tests.models.toy import FAMILY_CHANGES
from tests.toy import toy_checkpoint, toy_model
from tests.trainers.breaking import REWARD
from tests.trainers.toy_runs import metrics, rl_config
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.models.attention import ROW_TILE, plan_rows, round_up
from unmask.models.value_model import ValueModel
from unmask.trainers.methods.value import Critic
from unmask.trainers.rl import train_rl
from unmask.types import Group, Trajectory


def toy_value_model(dtype: torch.dtype = torch.float32, **changes: Any) -> ValueModel:
    """Return a value model with values other than 0."""
    policy = toy_model(2, **changes)
    model = ValueModel(policy.spec)
    model.backbone.load_state_dict(policy.backbone.state_dict())
    torch.manual_seed(0)
    torch.nn.init.normal_(model.value_head.weight, std=0.2)
    return model.to(dtype)


def critic_of(model: ValueModel, place: Path, *words: str) -> Critic:
    """Return a critic of a value model."""
    return Critic(model, rl_config(place, "advantage.kind=value", "advantage.lr=1e-2", *words))


def written(is_full: bool, seed: int = 0, count: int = 6) -> list[Trajectory]:
    rng = random.Random(seed)
    lengths = [rng.randrange(1, 12) for _ in range(count)]
    draw = random_canvas if is_full else lambda rng, length: random_trajectory(rng, 4, length)
    return [draw(rng, length) for length in lengths]


def group_of(trajectories: list[Trajectory], rewards: list[Any] | None = None) -> list[Group]:
    """Return one group; a reward is its trajectory's number when not given."""
    given = [float(n) for n in range(len(trajectories))] if rewards is None else rewards
    return [Group(trajectories[0].prompt, trajectories, given)]


def views_of(trajectories: list[Trajectory], is_full: bool = False, shrink: int = 1) -> list[Views]:
    """Return views with an advantage of 1.5 - n, and a slot right of each response."""
    return [views_of_trajectory(t, 1.5 - n, shrink, 1, is_full) for n, t in enumerate(trajectories)]


def dense_values(model: ValueModel, views: Views, view: int) -> Tensor:
    """Return the values `(C,)` at the rows that predict the canvas slots, in one forward of one view."""
    num_prompt, num_slots = len(views.prompt_ids), len(views.canvas_ids)
    place = torch.arange(num_prompt, num_prompt + num_slots)
    row = place - int(model.spec.is_shifted)
    canvas = views.canvas_ids.masked_fill(views.hidden[view], model.spec.require_mask_id())
    tokens = torch.cat((views.prompt_ids, canvas))
    positions = torch.arange(len(tokens))
    if model.spec.is_full:
        allowed = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
    else:
        # `clean | noisy`; a row before the slot's own block is clean text.
        row = row + len(tokens) * (row // views.block == place // views.block)
        is_noisy = torch.arange(2 * len(tokens)) >= len(tokens)
        block = positions.repeat(2) // views.block
        before, same = block < block[:, None], block == block[:, None]
        allowed = ~is_noisy & before | (is_noisy == is_noisy[:, None]) & same
        tokens = torch.cat((views.prompt_ids, views.canvas_ids, tokens))
        positions = positions.repeat(2)
    padding = (0, round_up(len(tokens), ROW_TILE) - len(tokens))
    plan = plan_rows(allowed[None], len(tokens) + padding[1])
    return model(F.pad(tokens, padding), F.pad(positions, padding), plan, row)


def gradients(model: ValueModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def traced(step_map: tuple[int, ...], num_response: int | None = None) -> Trajectory:
    """Return a trajectory of blocks of four with this step map."""
    (trajectory,) = written(False, count=1)
    return replace(
        trajectory,
        prompt=replace(trajectory.prompt, token_ids=(2, 3, 4, 5)),
        canvas_ids=tuple(5 for _ in step_map),
        step_map=step_map,
        behavior_logprobs=tuple(0.0 for _ in step_map),
        num_response=num_response or len(step_map),
        finish="stop",
    )


def full_checkpoint(place: Path) -> Path:
    """Write a random model with full attention that is unsure of everything."""
    changes: dict[str, Any] = FAMILY_CHANGES["llada"] | {"mask_id": 1}
    model = load_model(toy_checkpoint(place, family="llada", **changes))
    with torch.no_grad():
        model.head.projection.weight.mul_(0.02)
    save_model(model, place)
    return place


def value_run(place: Path, name: str, *words: str) -> Path:
    """Train by RL with a value model for three steps, or go on with it."""
    settings = ["advantage.lr=1e-3", "minibatches=2"]
    if "advantage.kind=shared_value" not in words:
        settings += ["advantage.kind=value", "advantage.minibatches=2"]
    settings += ["steps=3", "save_every=1", "run.keep_last=1", REWARD, *words]
    return train_rl(rl_config(place, *settings, run=name), resume=True).parent


def left_behind(run: Path) -> dict[str, Any]:
    """Return what of a finished run must not depend on how often it was interrupted."""
    (last,) = (run / "checkpoints").iterdir()
    files = {path.relative_to(run).as_posix(): path for path in run.rglob("*.safetensors")}
    bits = {name: path.read_bytes() for name, path in files.items()}
    return {"metrics": metrics(run), "state": (last / "state.json").read_text(), **bits}
