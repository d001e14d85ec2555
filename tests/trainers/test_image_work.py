"""What a picture costs in a step: encoded once, and prefilled and laid out once where attention allows it."""

from collections import Counter
from typing import Any

import pytest
import torch

from tests.engine.pictures import prompt_with
from tests.invariants import seeing
from tests.trainers import toy_methods
from unmask.configs.optimizer import OptimizerConfig
from unmask.diffusion.views import views_of_trajectory
from unmask.engine.engine import Engine
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.transformer import Model
from unmask.models.value_model import critic_on_frozen_policy
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_policy_objective

GROUP = 16
WIDE = seeing.picture(1, 30, 14)


def counted(model: Model) -> Counter[str]:
    """Count images through the tower and the projector, and image vectors through the language model."""
    found, vision = Counter[str](), seeing.vision_of(model)

    def count(name: str) -> Any:
        return lambda _, __: found.update({name: 1})

    vision.tower.register_forward_pre_hook(count("tower"))
    vision.projector.register_forward_pre_hook(count("projector"))

    def vectors(_: Any, arguments: Any) -> None:
        found["vectors"] += int((arguments[0] < 0).sum())

    model.backbone.register_forward_pre_hook(vectors)
    return found


def group_step(name: str) -> tuple[Counter[str], Counter[str], int, int]:
    """Return the counts of a group's rollout and of its update, its denoising steps and its views."""
    model = seeing.seeing_model(name, trains="with_projector")
    found, engine = counted(model), Engine(model)
    # The pictures end within the first page of the cache, which a group shares.
    prompt = prompt_with((WIDE, WIDE), 1)
    trajectories = seeing.by(engine, [prompt] * GROUP)
    rollout = Counter(found)
    found.clear()
    views = [
        views_of_trajectory(t, 7.5 - n, is_full=model.spec.is_full)
        for n, t in enumerate(trajectories)
    ]
    objective = build_policy_objective(toy_methods.row(minibatches=1))
    learner = Learner(model, OptimizerConfig(lr=1e-3, token_budget=100_000))
    learner.update(views, objective, 20.0)
    steps = sum(t.num_forwards for t in trajectories)
    return rollout, found, steps, sum(len(v.target) for v in views)


@pytest.mark.parametrize("name", seeing.KINDS)
def test_a_group_over_one_picture(name: str) -> None:
    """Under full attention a prompt depends on the response: every pass of every response reads it anew."""
    rollout, update, steps, num_views = group_step(name)
    assert rollout["tower"] == rollout["projector"] == 1
    assert "tower" not in update, "the features of the rollout are those of the update"
    assert update["projector"] == 1, "a trained projector runs in the pass"
    in_prompt = 2 * WIDE.count
    if name == "full":
        assert rollout["vectors"] == steps * in_prompt
        assert update["vectors"] == num_views * in_prompt
    else:
        assert rollout["vectors"] == in_prompt, "prefilled once for the group"
        assert update["vectors"] == in_prompt, "laid out once for the group"


def test_a_frozen_tower_encodes_a_picture_once_in_a_run() -> None:
    model = seeing.seeing_model("block-causal", torch.float32, "with_projector")
    found, engine = counted(model), Engine(model)
    for _ in range(3):
        seeing.by(engine, seeing.prompts())
        engine.update_weights()
    assert found["tower"] == 3, "three distinct pictures"
    assert found["projector"] == 9, "its weights may have changed"


def test_a_value_model_on_the_frozen_policy_reads_its_features() -> None:
    model = seeing.seeing_model("full", torch.float32, "language")
    add_lora(model, LoRAParams(rank=2))
    found = counted(model)
    views = [
        views_of_trajectory(t, 1.0, is_full=True) for t in seeing.written(model, seeing.prompts())
    ]
    critic = critic_on_frozen_policy(model)
    add_lora(critic, LoRAParams(rank=2))
    critic.value_head.requires_grad_(True)
    for learner in (Learner(model, OptimizerConfig()), Learner(critic, OptimizerConfig())):
        learner.score(views)
    assert found["tower"] == 3, "three distinct pictures"
