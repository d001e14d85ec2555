"""Views with hints: the states of the sampler, and an exact share of what was written right of the block."""

import random
from dataclasses import replace

import pytest
import torch

from tests.diffusion.trajectories import random_canvas
from unmask.configs.methods.views.suffix import SuffixViews
from unmask.diffusion.methods.suffix import of_trajectory
from unmask.diffusion.views import views_of_trajectory
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

BLOCK = 4


def written(length: int = 12, num_response: int = 12, seed: int = 0) -> Trajectory:
    """Return a response of blocks of four, each written in order from the left, two tokens a step."""
    base = random_canvas(random.Random(seed), length)
    return replace(
        base,
        prompt=Prompt("toy", seed, (), (2, 3, 4)),
        canvas_ids=tuple(range(5, 5 + length)),
        step_map=tuple(1 + n // 2 for n in range(length)),
        behavior_logprobs=(0.0,) * length,
        num_response=num_response,
        sampling=SamplingParams(block_size=BLOCK, max_tokens=length, seed=seed),
    )


@pytest.mark.parametrize("retain", [0.25, 0.5, 1.0])
def test_a_share_of_the_positions_right_of_the_block_is_shown(retain: float) -> None:
    trajectory = written()
    views = of_trajectory(trajectory, 1.0, SuffixViews(retain=retain), True)
    plain = views_of_trajectory(trajectory, 1.0, is_full=True)
    assert torch.equal(views.hidden, plain.hidden) and torch.equal(views.target, plain.target)
    assert views.hints is not None
    for view, hints in enumerate(views.hints):
        end = (view // 2 + 1) * BLOCK  # two views to a block
        assert not hints[:end].any()
        assert int(hints.sum()) == int((12 - end) * retain)
        assert not (hints & ~views.hidden[view]).any()


def test_what_was_never_written_is_not_shown() -> None:
    trajectory = replace(written(), step_map=(1, 1, 2, 2, 3, 3, 4, 4, 0, 0, 0, 0), num_response=8)
    views = of_trajectory(trajectory, 1.0, SuffixViews(retain=1.0), True)
    assert views.hints is not None
    assert views.hints[0].tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_hints_differ_between_views_and_responses_and_not_between_calls() -> None:
    config = SuffixViews(retain=0.5)
    found = [of_trajectory(written(40, 40, seed), 1.0, config, True).hints for seed in (0, 0, 1)]
    assert found[0] is not None and found[1] is not None and found[2] is not None
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert not torch.equal(found[0][0], found[0][1])


def test_block_causal_models_are_refused_with_the_row_that_would_do() -> None:
    assert SuffixViews().refusal(True, True) is None
    assert 'set views.kind = "trace"' in (SuffixViews().refusal(False, False) or "")
