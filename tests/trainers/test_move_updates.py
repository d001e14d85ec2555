"""The trainer's gradient is that of the expected reward of its sampler, on a real transformer, enumerated whole."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

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
from tests.trainers.toy_critics import toy_value_model
from tests.trainers.toy_methods import row
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model, block_causal
from unmask.sampling_params import SamplingParams
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.rollout_views import rollout_views
from unmask.trainers.value_targets import value_targets
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


FEW: dict[str, Any] = {"vocab_size": 4, "num_drawable": 3, "mask_id": 3, "eos_ids": ()}


def error_of(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Return the largest difference of the gradient of a loss from that of reward, relative to its largest number."""
    size = max(float(gradient.abs().max()) for gradient in exact)
    assert size > 1e-6
    return max(float((a + b).abs().max()) for a, b in zip(found, exact, strict=True)) / size


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
    return gradient_of(model, rollout_views(groups, config, model.spec.is_full), earned, config)


def gradient_of(
    model: Model, views: Sequence[Views], weights: Tensor, config: RLConfig
) -> list[Tensor]:
    """Return the gradient by each parameter of the losses of views, each times its weight."""
    views = [
        replace(v, weight=v.weight.double() * weight)
        for v, weight in zip(views, weights, strict=True)
    ]
    objective = build_policy_objective(config)
    model.zero_grad()
    for pack in pack_views(views, conventions_of(model), 4096):
        output = objective(score_pack(model, pack), pack)
        (output.loss * pack.weights).sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


class Case(NamedTuple):
    """All paths of a sampler of a model: what was written, how probable it is and what it earns.

    Attributes:
        exact: the gradient of the expected reward by each parameter.
    """

    model: Model
    written: list[Trajectory]
    probability: Tensor
    reward: Tensor
    exact: list[Tensor]


def case_of(sampler: str, attention: str) -> Case:
    model = toy_model(3, torch.float64, **FEW, **ATTENTION[attention])
    given = {"block_size": 2, "max_tokens": 4, "stop_token_ids": (), **SAMPLERS[sampler]}
    params = SamplingParams(**given)
    toy = Toy(3, params.max_tokens, params)
    levels = enumerate_moves(toy, policy_of(model, toy), is_merged=False)
    rewards = toy.rewards(2)
    reward = expectation(toy, levels, rewards).reward
    exact = torch.autograd.grad(reward, list(model.parameters()), allow_unused=True)
    paths = paths_of(toy, levels)
    return Case(
        model,
        trajectories_of(toy, levels, paths, prompt_of(PROMPT)),
        paths.probability,
        toy.reward(rewards, paths.canvas),
        [gradient for gradient in exact if gradient is not None],
    )


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_gradient_of_a_step_over_all_paths_is_that_of_expected_reward(
    sampler: str, attention: str
) -> None:
    case = case_of(sampler, attention)
    earned = case.probability * case.reward

    def error(**loss: Any) -> float:
        return error_of(trained(case.model, case.written, earned, config_of(**loss)), case.exact)

    assert error() < 1e-10
    assert error(per_move=True) < 1e-10
    assert error(likelihood="revealed") > 0.001


@pytest.mark.parametrize(
    ("sampler", "attention"),
    [
        ("static", "full"),
        ("dynamic, early stop", "block"),
        ("factor", "block"),
        ("static, remask", "block"),
        ("dynamic, edits", "full"),
    ],
)
def test_values_of_any_critic_leave_the_expected_gradient_of_moves_as_it_is(
    sampler: str, attention: str
) -> None:
    case = case_of(sampler, attention)
    critic = toy_value_model(torch.float64, **FEW, **ATTENTION[attention])
    groups = [Group(case.written[0].prompt, case.written, case.reward.tolist())]

    def error(likelihood: str, **loss: Any) -> float:
        loss = {"likelihood": likelihood, **loss}
        config = row(loss=loss, advantage={"kind": "value", "lr": 1.0}, minibatches=1)
        views = rollout_views(groups, config, case.model.spec.is_full)
        views = [
            replace(v, advantages=reward.expand(v.canvas_ids.shape))
            for v, reward in zip(views, case.reward, strict=True)
        ]
        values = Learner(critic, config.optimizer).score(views)
        targets = value_targets(groups, views, [3 * value for value in values], config)
        assert targets.metrics["value_explained_variance"] != 0
        return error_of(
            gradient_of(case.model, targets.views, case.probability, config), case.exact
        )

    # Advantages are rounded to fp32, as in training.
    assert error("move") < 1e-4
    assert error("move", per_move=True) < 1e-4
    assert error("revealed") > 0.01
