"""Drafts: what is given, what is written at once, and at which denoising steps."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from tests.invariants.conventions import TOYS
from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories
from unmask.diffusion.views import views_of_trajectory
from unmask.engine.llm import LLM
from unmask.models.transformer import Model
from unmask.rollouts.drafts import draft_metrics, draft_sampling, draft_steps, write_drafts
from unmask.types import Group, Trajectory


def model_of(kind: str) -> Model:
    return toy_model(dtype=torch.float64, **TOYS[kind])


def group_of(trajectories: list[Trajectory]) -> Group:
    return Group(trajectories[0].prompt, trajectories, [0.0] * len(trajectories))


def test_every_step_is_drawn_alike_often() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1, strategy="left_to_right")
    num_steps = max(trajectory.step_map[: trajectory.num_response])
    drawn: Counter[int] = Counter()
    for seed in range(900):
        seeded = replace(trajectory, sampling=replace(trajectory.sampling, seed=seed))
        steps = draft_steps(seeded, 3)
        assert steps == sorted(steps) and steps == draft_steps(seeded, 3)
        drawn.update(steps)
    assert sorted(drawn) == list(range(1, num_steps + 1)) and num_steps > 3
    expected = 900 * 3 / num_steps
    assert all(0.8 * expected < times < 1.2 * expected for times in drawn.values())


@pytest.mark.parametrize("kind", ["block-causal", "block-causal, shifted", "full", "full, shifted"])
def test_a_draft_keeps_what_was_revealed_and_is_trained_on_the_rest(kind: str) -> None:
    """Under full attention in one denoising step; its view is the state of the response at that step."""
    model = model_of(kind)
    written = toy_trajectories(model, 4, strategy="left_to_right")
    drafts = write_drafts(LLM(model), [group_of(written)], 3)
    assert len(drafts) == 12
    for place, draft in enumerate(drafts):
        source, number = written[place // 3], place % 3
        step = draft_steps(source, 3)[number]
        given = {i for i in range(source.num_response) if 0 < source.step_map[i] < step}
        assert dict(draft.sampling.pinned).keys() == given
        assert all(draft.canvas_ids[i] == source.canvas_ids[i] for i in given)
        views = views_of_trajectory(draft, 1.0, is_full=model.spec.is_full)
        # Each block in one step; the first position of a shifted block in one of its own.
        assert len(views.target) <= (2 if kind == "block-causal, shifted" else 1)
        expected = {i for i in range(draft.num_response) if i not in given}
        assert set(views.target.any(0).nonzero()[:, 0].tolist()) == expected
        assert not views.hidden[:, sorted(given)].any()


def test_the_seed_of_a_response_makes_its_drafts() -> None:
    model = model_of("full")
    written = toy_trajectories(model, 2)
    first, again = (write_drafts(LLM(model), [group_of(written)], 2) for _ in range(2))
    assert first == again
    seeds = {draft.sampling.seed for draft in first} | {t.sampling.seed for t in written}
    assert len(seeds) == 6


def test_the_first_step_has_nothing_given() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    assert draft_sampling(trajectory, 1, 0).pinned == ()


def test_the_mean_reward_is_over_all_drafts() -> None:
    trajectories = toy_trajectories(toy_model(), 2)
    groups = [replace(group_of(trajectories), rewards=[1.0, 0.0]), group_of(trajectories)]
    assert draft_metrics(groups) == {"draft_reward": 0.25}
    assert draft_metrics([]) == {}
