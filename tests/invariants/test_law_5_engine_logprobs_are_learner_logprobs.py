"""Law 5: what the engine says a token's log-probability was, the learner says too."""

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.engine.golden_traces import SDAR
from tests.engine.writers import STRATEGIES, Ask, by_engine
from tests.toy import toy_model
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import views_of_trajectory
from unmask.models.checkpoint import load_model
from unmask.models.heads import Targets
from unmask.models.tiles import plan_documents
from unmask.models.transformer import Model
from unmask.types import SamplingParams, Trajectory

# Halves, which fp32 holds exactly: the learner keeps temperatures in fp32.
TEMPERATURES = (0.0, 0.5, 1.0, 1.5)


def asks(vocabulary: int) -> list[Ask]:
    """Draw requests that end in every possible place of a block."""
    rng = random.Random(7)
    return [
        (
            [rng.randrange(2, vocabulary) for _ in range(rng.randrange(24))],
            SamplingParams(
                strategy=STRATEGIES[i % 4],
                denoising_steps=rng.choice([None, 2, 3]),
                threshold=0.4,
                temperature=TEMPERATURES[i // 4 % 4],
                block_size=rng.choice([None, 8]),
                # A handful of ordinary ids, so that many responses stop before they are full.
                stop_token_ids=tuple(range(2, vocabulary, 12)),
                max_tokens=rng.randrange(5, 24),
                seed=i,
            ),
        )
        for i in range(64)
    ]


def ends_inside_a_block(trajectory: Trajectory) -> bool:
    block = trajectory.sampling.block_size
    assert block is not None
    return (len(trajectory.prompt.token_ids) + trajectory.num_response) % block != 0


def junk(trajectory: Trajectory) -> int:
    """Count revealed slots right of the response."""
    return sum(step > 0 for step in trajectory.step_map[trajectory.num_response :])


def assert_hard_cases_occur(trajectories: list[Trajectory]) -> None:
    inside = [t for t in trajectories if ends_inside_a_block(t)]
    assert sum(t.finish == "stop" for t in inside) >= 5, "a stop inside a block"
    assert sum(t.finish == "length" for t in inside) >= 5, "max_tokens inside a block"
    assert sum(junk(t) > 0 for t in inside if t.finish == "stop") >= 5, "junk right of the stop"
    assert sum(0 in t.step_map for t in inside) >= 5, "slots never revealed"
    sizes = [t.sampling.block_size or 0 for t in trajectories]
    tails = [len(t.prompt.token_ids) % k for t, k in zip(trajectories, sizes, strict=True)]
    assert sum(tail > 0 for tail in tails) >= 20 and 0 in tails, "P mod K != 0, and = 0"


@torch.no_grad()
def gap(model: Model, trajectories: list[Trajectory], budget: int) -> Tensor:
    """Return learner minus engine for every token of every response."""
    views = [views_of_trajectory(t, 1.0, post_num=99) for t in trajectories]
    gaps: list[Tensor] = []
    for pack in pack_views(views, model.spec.require_mask_id(), budget):
        scores = model.score(
            pack.tokens,
            pack.positions,
            plan_documents(pack.structure),
            pack.rows,
            Targets(pack.targets, pack.temperatures),
        )
        gaps.append(scores.logprobs.double() - pack.behavior_logprobs)
    return torch.cat(gaps)


@pytest.mark.parametrize("budget", [100_000, 80])
@pytest.mark.parametrize(
    ("weights", "dtype", "tolerance"),
    [
        ("toy", torch.float64, 1e-12),
        ("toy", torch.float32, 1e-4),
        ("golden", torch.float64, 1e-12),
        ("golden", torch.float32, 5e-4),
    ],
)
def test_the_learner_agrees_with_the_engine(
    weights: str, dtype: torch.dtype, tolerance: float, budget: int
) -> None:
    model = load_model(SDAR, dtype=dtype) if weights == "golden" else toy_model(1, dtype)
    trajectories = by_engine(model, asks(300 if weights == "golden" else 20))
    assert_hard_cases_occur(trajectories)
    gaps = gap(model, trajectories, budget)
    scored = sum(
        step > 0
        for t in trajectories
        for slot, step in enumerate(t.step_map)
        if t.finish == "stop" or slot < t.num_response
    )
    assert len(gaps) == scored
    assert float(gaps.abs().max()) <= tolerance


def test_the_gap_would_show_a_canvas_cut_at_the_stop() -> None:
    """Why slots right of the response stay in the canvas: what stood left of them had seen them."""
    model = toy_model(1, torch.float64)
    trajectories = [t for t in by_engine(model, asks(20)) if junk(t)]
    hidden_junk = [
        replace(
            t,
            step_map=tuple(s * (i < t.num_response) for i, s in enumerate(t.step_map)),
            behavior_logprobs=tuple(
                p * (i < t.num_response) for i, p in enumerate(t.behavior_logprobs)
            ),
        )
        for t in trajectories
    ]
    assert float(gap(model, trajectories, 100_000).abs().max()) <= 1e-12
    assert float(gap(model, hidden_junk, 100_000).abs().max()) > 0.01
