"""The trainer's gradient is that of the expected reward of its sampler, on a real transformer, enumerated whole."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.diffusion.enumeration import (
    Toy,
    enumerate_moves,
    expectation,
    paths_of,
    trajectories_of,
)
from tests.engine.writers import prompt_of
from tests.toy import toy_model
from tests.trainers.toy_methods import row
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import pack_views
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model, block_causal
from unmask.sampling_params import SamplingParams
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.rollout_views import rollout_views
from unmask.types import Group, Trajectory

PROMPT = [0, 2, 1, 1]
ATTENTION: dict[str, dict[str, Any]] = {"block": {}, "full": {"attention": "full"}}
# The sampler of each attention, and how often a token ends a response.
SAMPLERS: dict[str, dict[str, Any]] = {
    "static": {"strategy": "static", "temperature": 0.7},
    "dynamic, early stop": {"strategy": "dynamic", "threshold": 0.6, "stop_token_ids": (0,)},
    "factor": {"strategy": "factor", "factor": 1.2},
    "static, sub-blocks": {"strategy": "static", "sub_block_size": 2, "block_size": 4},
    "entropy, early stop": {"strategy": "entropy", "stop_token_ids": (0,), "block_size": 4},
    "static, remask": {"strategy": "static", "remask_threshold": 0.3},
    "dynamic, edits": {
        "strategy": "dynamic",
        "threshold": 0.6,
        "edit_threshold": 0.5,
        "max_edit_steps": 2,
        "max_tokens": 2,
    },
}


def config_of(**loss: Any) -> RLConfig:
    """Return a row with one update, where the ratio is 1, and rewards as advantages."""
    return row(loss={"likelihood": "move", **loss}, advantage={"kind": "none"}, minibatches=1)


def policy_of(model: Model, toy: Toy) -> Tensor:
    """Return the model's logits as a table `(states, C, V)`, with gradients."""
    canvases = torch.cartesian_prod(*[torch.arange(toy.vocabulary + 1)] * toy.canvas)
    canvases = canvases.view(-1, toy.canvas)
    ids = torch.cat((torch.tensor(PROMPT).expand(len(canvases), -1), canvases), 1)
    block = toy.params.block_size
    assert block is not None
    allowed = None if model.spec.is_full else block_causal(ids.shape[1], block, ids.device)[None]
    logits = model.logits(ids, allowed=allowed)[:, len(PROMPT) :, : toy.vocabulary]
    return logits[toy.state(canvases).argsort()]  # by number of the state


def trained(
    model: Model, written: Sequence[Trajectory], earned: Tensor, config: RLConfig
) -> list[Tensor]:
    """Return the gradient by each parameter of the losses of all trajectories, summed with what each earned."""
    groups = [Group(written[0].prompt, written, [1.0] * len(written))]
    views = rollout_views(groups, config, model.spec.is_full)
    views = [
        replace(v, weight=v.weight.double() * worth) for v, worth in zip(views, earned, strict=True)
    ]
    objective = build_policy_objective(config)
    model.zero_grad()
    for pack in pack_views(views, conventions_of(model), 4096):
        output = objective(score_pack(model, pack), pack)
        (output.loss * pack.weights).sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_gradient_of_a_step_over_all_paths_is_that_of_expected_reward(
    sampler: str, attention: str
) -> None:
    few = {"vocab_size": 4, "num_drawable": 3, "mask_id": 3, "eos_ids": ()}
    model = toy_model(3, torch.float64, **few, **ATTENTION[attention])
    given = {"block_size": 2, "max_tokens": 4, "stop_token_ids": (), **SAMPLERS[sampler]}
    params = SamplingParams(**given)
    toy = Toy(3, params.max_tokens, params)
    levels = enumerate_moves(toy, policy_of(model, toy), is_merged=False)
    rewards = toy.rewards(2)
    reward = expectation(toy, levels, rewards).reward
    exact = torch.autograd.grad(reward, list(model.parameters()), allow_unused=True)
    exact = [gradient for gradient in exact if gradient is not None]
    paths = paths_of(toy, levels)
    earned = paths.probability * toy.reward(rewards, paths.canvas)
    written = trajectories_of(toy, levels, paths, prompt_of(PROMPT))
    size = max(float(gradient.abs().max()) for gradient in exact)
    assert size > 1e-6

    def error(**loss: Any) -> float:
        """Return the largest difference from the exact gradient, relative to its largest number."""
        found = trained(model, written, earned, config_of(**loss))
        pairs = zip(found, exact, strict=True)
        return max(float((own + expected).abs().max()) for own, expected in pairs) / size

    assert error() < 1e-10
    assert error(per_move=True) < 1e-10
    assert error(likelihood="revealed") > 0.001
