"""One denoising step of every block in one view (dTRPO)."""

import random

import pytest
import torch

from tests.diffusion.trajectories import random_canvas, random_trajectory
from unmask.configs.methods.views.block_steps import BlockStepsViews
from unmask.diffusion.masked_views import blocks_of
from unmask.diffusion.methods.block_steps import of_trajectory
from unmask.diffusion.views import views_of_trajectory
from unmask.types import Trajectory

RANDOM, TWO = BlockStepsViews(count=3), BlockStepsViews(count=3, per_step=2)
RECORDED = BlockStepsViews(count=3, order="recorded")


def trajectories(is_full: bool) -> list[Trajectory]:
    rng = random.Random(7)
    lengths = (1, 3, 4, 6, 11)
    return [random_canvas(rng, n) if is_full else random_trajectory(rng, 4, n) for n in lengths]


@pytest.mark.parametrize("is_full", [False, True])
def test_a_recorded_block_is_at_one_of_its_steps(is_full: bool) -> None:
    """Held to a loop over blocks: what is hidden, predicted and how it is weighed."""
    for trajectory in trajectories(is_full):
        traced = views_of_trajectory(trajectory, 1.0, is_full=is_full)
        trained, blocks = traced.target.any(0), blocks_of(traced, is_full)
        views = of_trajectory(trajectory, 1.0, RECORDED, is_full)
        weight = views.likelihood.weight
        for v in range(3):
            for block in blocks.unique().tolist():
                members = [c for c in range(len(blocks)) if blocks[c] == block and trained[c]]
                steps = sorted({trajectory.step_map[c] for c in members})
                targets = [c for c in members if views.target[v, c]]
                if not members:
                    continue
                (step,) = {trajectory.step_map[c] for c in targets}
                assert targets == [c for c in members if trajectory.step_map[c] == step]
                for c in members:
                    assert bool(views.hidden[v, c]) == (trajectory.step_map[c] >= step)
                    assert float(weight[v, c]) == (len(steps) if c in targets else 0)
        assert views.hidden[:, ~trained].all() and not views.target[:, ~trained].any()


@pytest.mark.parametrize(("config", "per_step"), [(RANDOM, 1), (TWO, 2)])
def test_a_random_order_reveals_so_many_tokens_a_step(
    config: BlockStepsViews, per_step: int
) -> None:
    for trajectory in trajectories(False):
        views = of_trajectory(trajectory, 1.0, config, False)
        trained, blocks = views.likelihood.trained, blocks_of(views, False)
        for v in range(3):
            for block in blocks[trained].unique():
                size = int((trained & (blocks == block)).sum())
                inside = trained & (blocks == block)
                num_steps = -(-size // per_step)
                num_hidden = int((views.hidden[v] & inside).sum())
                num_targets = int((views.target[v] & inside).sum())
                assert (size - num_hidden) % per_step == 0
                assert num_targets == min(per_step, num_hidden) > 0
                weights = views.likelihood.weight[v][views.target[v] & inside]
                assert (weights == num_steps).all()


@pytest.mark.parametrize(
    "config",
    [
        BlockStepsViews(count=1024),
        BlockStepsViews(count=1024, per_step=3),
        BlockStepsViews(count=1024, order="recorded"),
    ],
)
def test_every_token_counts_once_in_expectation(config: BlockStepsViews) -> None:
    for trajectory in trajectories(False):
        found = of_trajectory(trajectory, 1.0, config, False).likelihood
        mean = found.weight.mean(0)[found.trained]
        # A weight is 4 in a quarter of the draws at most: five standard errors of 1024 are 0.27.
        torch.testing.assert_close(mean, torch.ones_like(mean), rtol=0, atol=0.27)


def test_tokens_a_step_are_refused_with_a_recorded_order() -> None:
    with pytest.raises(ValueError, match="per_step = 2 has no effect"):
        BlockStepsViews(order="recorded", per_step=2)
