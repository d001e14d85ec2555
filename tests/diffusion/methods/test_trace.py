"""The views of TraceRL by their config, and trace SFT against the published loss."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.diffusion.methods.published import (
    R,
    assert_same_loss,
    block_rows_loss,
    demonstrations,
    full_rows_loss,
    golden,
    our_loss,
)
from tests.toy import toy_model
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import toy_trajectories
from unmask.configs.methods.views.trace import TraceViews
from unmask.diffusion.methods.trace import of_demonstrations, of_trajectory
from unmask.diffusion.views import Canvas, views_of_trajectory


def test_shrink_and_post_num_are_passed_on() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    config = TraceViews(shrink=2, post_num=1)
    found = of_trajectory(trajectory, 2.0, config, is_full=False)
    expected = views_of_trajectory(trajectory, 2.0, shrink=2, post_num=1)
    assert torch.equal(found.hidden, expected.hidden)
    assert torch.equal(found.advantages, expected.advantages)


def test_they_are_the_samplers_own_states_unless_merged_or_enlarged() -> None:
    assert row().views.is_sampler_path
    for views in ({"shrink": 2}, {"train_block": 8}, {"kind": "random"}, {"kind": "coupled"}):
        assert not row(views).views.is_sampler_path


def collapse(steps: list[int], shrink: int) -> list[int]:
    """Give every `shrink` neighbouring values the largest of them."""
    distinct = sorted(set(steps))
    merged = {
        value: max(distinct[i // shrink * shrink : i // shrink * shrink + shrink])
        for i, value in enumerate(distinct)
    }
    return [merged[value] for value in steps]


def rounds(steps: list[int], block: int, shrink: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the hidden and selected positions of each round, by consuming a copy of the step map."""
    starts = range(0, len(steps), block)
    left = [value for s in starts for value in collapse(steps[s : s + block], shrink)]
    while any(value >= 0 for value in left):
        hidden, selected = torch.zeros(2, len(steps), dtype=torch.bool)
        for start in starts:
            places = [i for i in range(start, start + block) if left[i] >= 0]
            least = min((left[i] for i in places), default=0)
            hidden[places] = True
            selected[[i for i in places if left[i] == least]] = True
        yield hidden, selected
        left = [-1 if selected[i] else value for i, value in enumerate(left)]


@pytest.mark.parametrize("shrink", [1, 2])
@pytest.mark.parametrize(
    ("family", "reduction"), [("sdar", "constant"), ("llada", "view"), ("dream", "view")]
)
def test_the_loss_is_that_of_the_published_script(family: str, reduction: str, shrink: int) -> None:
    """`trace`: for block models the rounds of all blocks at once, else a row per denoising step."""
    model = golden(family)
    batch = demonstrations(model, with_steps=True)
    _, ours = our_loss(model, batch, {"kind": "trace", "shrink": shrink}, reduction)
    block = R if model.spec.is_full else 4
    rows = [(d, *masks) for d in batch for masks in rounds(list(d.step_map or ()), block, shrink)]
    published = (
        full_rows_loss(model, rows) if model.spec.is_full else block_rows_loss(model, rows, block)
    )
    assert_same_loss(model, ours, published)


def test_the_order_alone_counts_and_trained_pads_come_last() -> None:
    def targets(step_map: tuple[int, ...], num_pads: int = 0) -> list[list[bool]]:
        given = [((2,) * 4, (3,) * (4 + num_pads), step_map)]
        (views,) = of_demonstrations(given, TraceViews(), Canvas(None, True), [0])
        return views.target.tolist()

    assert targets((0, 2, 0, 1)) == targets((1, 9, 1, 4))
    assert targets((0, 2, 0, 1), 2)[-1] == [False] * 4 + [True] * 2
