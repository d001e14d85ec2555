"""Law 3: a pack says what one dense forward per view says, in logits and in gradients."""

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.diffusion.trajectories import MASK, random_trajectory
from tests.toy import toy_model
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.models.heads import Targets
from unmask.models.tiles import plan_documents
from unmask.models.transformer import Model

Origin = tuple[int, int, int]  # trajectory, view, slot
Gradients = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(2, torch.float64, is_tied=True)


def doubled_mask(length: int, block: int) -> Tensor:
    """Return who sees whom in `clean | noisy`, both of `length` tokens."""
    place = torch.arange(2 * length)
    is_noisy, number = place >= length, place % length // block
    before = number[None] < number[:, None]
    same = number[None] == number[:, None]
    return ~is_noisy[None] & before | (is_noisy[None] == is_noisy[:, None]) & same


def dense_logits(model: Model, views: Views, view: int) -> Tensor:
    """Return the logits `(C, V)` of the canvas slots, in one dense forward of one view."""
    clean = torch.cat((views.prompt_ids, views.canvas_ids))
    canvas = views.canvas_ids.masked_fill(views.hidden[view], MASK)
    both = torch.cat((clean, views.prompt_ids, canvas))[None]
    length = len(clean)
    positions = torch.arange(length).repeat(2)
    logits = model.logits(both, positions, doubled_mask(length, views.block)[None])
    return logits[0, length + len(views.prompt_ids) :]


def gradients(model: Model, loss: Tensor) -> Gradients:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def dense(model: Model, batch: list[Views]) -> tuple[dict[Origin, Tensor], Gradients]:
    """Return the logits of every target, and the gradients of the weighted log-likelihood."""
    logits: dict[Origin, Tensor] = {}
    loss = torch.zeros((), dtype=torch.float64)
    for t, views in enumerate(batch):
        for v in range(len(views.target)):
            rows = dense_logits(model, views, v)
            scaled = (rows / views.temperature).masked_fill(~model.head.drawable, -torch.inf)
            logprobs = scaled.log_softmax(-1)
            for s in views.target[v].nonzero()[:, 0].tolist():
                logits[t, v, s] = rows[s].detach()
                gain = views.weight[v, s] * views.advantages[s]
                loss = loss + gain * logprobs[s, views.canvas_ids[s]]
    return logits, gradients(model, loss)


def packed(
    model: Model, batch: list[Views], budget: int
) -> tuple[dict[Origin, Tensor], Gradients, int]:
    """Return the same by packs of at most `budget` tokens, and how many packs there were."""
    logits: dict[Origin, Tensor] = {}
    loss = torch.zeros((), dtype=torch.float64)
    packs = pack_views(batch, MASK, budget)
    for pack in packs:
        plan = plan_documents(pack.structure)
        rows = model(pack.tokens, pack.positions, plan, pack.rows)
        keys = [(t, v, s) for t, v, s in pack.origin.T.tolist()]
        logits |= dict(zip(keys, rows.detach(), strict=True))
        targets = Targets(pack.targets, pack.temperatures)
        scores = model.score(pack.tokens, pack.positions, plan, pack.rows, targets)
        loss = loss + (pack.weights * pack.advantages * scores.logprobs).sum()
    return logits, gradients(model, loss), len(packs)


def batch_of(seed: int, block: int, shrink: int) -> list[Views]:
    """Draw views of six trajectories: two on one prompt, others on any."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    trajectories = [random_trajectory(rng, block) for _ in range(5)]
    shared = trajectories[0].prompt.token_ids
    trajectories.append(random_trajectory(rng, block, prompt_ids=shared))
    assert any(len(t.prompt.token_ids) % block for t in trajectories)
    views = [views_of_trajectory(t, rng.uniform(-1, 1), shrink, post_num=1) for t in trajectories]
    return [replace(v, weight=torch.rand(v.weight.shape, generator=generator)) for v in views]


@pytest.mark.parametrize(("block", "budget"), [(4, 10_000), (4, 60), (3, 36)])
@pytest.mark.parametrize("shrink", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_packed_is_view_by_view(
    model: Model, seed: int, shrink: int, block: int, budget: int
) -> None:
    batch = batch_of(seed, block, shrink)
    expected_logits, expected_gradients = dense(model, batch)
    logits, found_gradients, num_packs = packed(model, batch, budget)
    assert (num_packs == 1) == (budget == 10_000)
    assert logits.keys() == expected_logits.keys()
    for key, row in logits.items():
        torch.testing.assert_close(row, expected_logits[key], rtol=0, atol=1e-11)
    assert found_gradients.keys() == expected_gradients.keys()
    for name, gradient in found_gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=0, atol=1e-10)


def test_two_block_sizes_in_one_pack(model: Model) -> None:
    """The same prompt on two grids is two prompts."""
    rng = random.Random(0)
    prompt = tuple(range(2, 18))
    batch = [
        views_of_trajectory(random_trajectory(rng, block, prompt_ids=prompt), 1.0)
        for block in (4, 8)
    ]
    expected, _ = dense(model, batch)
    logits, _, num_packs = packed(model, batch, 10_000)
    assert num_packs == 1
    for key, row in logits.items():
        torch.testing.assert_close(row, expected[key], rtol=0, atol=1e-11)
