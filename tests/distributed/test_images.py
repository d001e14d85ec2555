"""Training about images on two ranks is training by one process, whichever parts are trained."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed.ranks import on_ranks
from tests.distributed.test_runs import assert_same_run, responses
from tests.distributed.test_sharding import LIKELIHOOD, Trained, assert_same
from tests.invariants import seeing
from tests.trainers.toy_images import rl_config, sft_config
from unmask.configs.model import TrainedParts
from unmask.configs.optimizer import OptimizerConfig
from unmask.diffusion.views import views_of_trajectory
from unmask.distributed.world import ALONE, World
from unmask.trainers.learner import Learner
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft


def steps(world: World, parts: TrainedParts, num_images: int, budget: int) -> Trained:
    """Take three steps on trajectories of which some are about images, and return what came of them."""
    torch.manual_seed(0)
    model = seeing.seeing_model("full", torch.float32, parts)
    asked = sorted(seeing.prompts(), key=lambda prompt: not prompt.images)
    texts = [prompt for prompt in asked if not prompt.images] * 4
    written = seeing.written(model, asked[:num_images] + texts)
    views = [views_of_trajectory(t, 1.0, is_full=True) for t in written]
    config = OptimizerConfig(lr=1e-2, eps=1e-3, clip_norm=0.5, token_budget=budget)
    learner = Learner(model, config, world=world)
    updates = [learner.update(views, LIKELIHOOD, 30.0) for _ in range(3)]
    weights = dict(learner.whole_weights()) if world.size > 1 else dict(model.named_parameters())
    return Trained(
        [update.loss for update in updates],
        [update.values for update in updates],
        {n: w.detach().clone() for n, w in weights.items() if w.requires_grad or world.size > 1},
        learner.score(views),
    )


@pytest.mark.parametrize(
    ("parts", "num_images", "budget"),
    [("language", 6, 100), ("all", 6, 8192), ("with_projector", 1, 60), ("projector", 0, 60)],
)
def test_two_ranks_train_as_one_process(parts: TrainedParts, num_images: int, budget: int) -> None:
    """Also where one rank has no image, and where none has one."""
    expected = steps(ALONE, parts, num_images, budget)
    first, second = on_ranks(steps, parts, num_images, budget)
    assert_same(first, expected, 1e-6)
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name])


def train(world: World, kind: str, place: Path, words: list[str], run: str) -> str:
    """Train and return the directory of the trained model."""
    if kind == "sft":
        return str(train_sft(sft_config(place, *words, run=run), False, world))
    return str(train_rl(rl_config(place, *words, run=run), False, world))


RUNS: dict[str, tuple[str, list[str]]] = {
    "sft": ("sft", ["model.trains=with_projector", "eval.problems=3", "eval.every=1"]),
    "value": ("rl", ["model.trains=all", "advantage.kind=value", "advantage.lr=1e-2"]),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_those_of_one_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    kind, words = RUNS[name]
    words = [*words, "optimizer.eps=1e-3"]
    arguments: Any = (kind, tmp_path, words)
    train(ALONE, *arguments, "alone")
    assert on_ranks(train, *arguments, "ranks") == [str(tmp_path / "ranks" / "model")] * 2
    assert_same_run(tmp_path / "ranks", tmp_path / "alone")
    if kind == "rl":
        assert responses(tmp_path / "ranks") == responses(tmp_path / "alone")
