"""The losses of the published SFT scripts, row by row under dense masks, and ours on the same masks.

Written from a description of dLLM-RL's `sft_sdar`, `sft_llada` and `sft_dream`. Prompts have one length,
as do responses, and blocks divide both, so that no row of the table of departures in `docs/methods.md`
applies. Log-probabilities are over the ids that the model may write.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.invariants.conventions import model_of
from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.trainers.losses import build_supervised_objective
from unmask.trainers.sft import noisy_views, weighted_views

P, R = 8, 12  # tokens of every prompt and response


def demonstrations(model: Model, with_steps: bool = False) -> list[Demonstration]:
    """Return three demonstrations of ids that the model may write; one step may reveal several tokens."""
    drawable = model.head.drawable.nonzero()[:, 0].tolist()
    rng = torch.Generator().manual_seed(5)
    found: list[Demonstration] = []
    for _ in range(3):
        picked = torch.randint(len(drawable), (P + R,), generator=rng).tolist()
        ids = tuple(drawable[i] for i in picked)
        steps = tuple((torch.randint(3, (R,), generator=rng) + torch.arange(R) // 4 * 3).tolist())
        found.append(Demonstration(ids[:P], ids[P:], steps if with_steps else None))
    return found


def our_loss(
    model: Model, batch: Sequence[Demonstration], views: dict[str, Any], reduction: str
) -> tuple[list[Views], Tensor]:
    """Return the views of a batch under a `[views]` table, and their packed loss."""
    config = SFTConfig.model_validate(
        {"model": {"path": "-"}, "views": views, "loss": {"reduction": reduction}}
    )
    found = noisy_views(batch, range(len(batch)), config, model.spec, 1, 0)
    weighted, total = weighted_views(found, config, R)
    objective = build_supervised_objective(config)
    packs = pack_views(weighted, conventions_of(model), 64)
    losses = [
        (objective(score_pack(model, pack), pack).loss * pack.weights).sum() for pack in packs
    ]
    return found, torch.stack(losses).sum() / total


def block_mask(block: int) -> Tensor:
    """Return the published 0/1 mask of `[prompt | clean response | noisy response]`, from its table."""
    mask = torch.zeros(P + 2 * R, P + 2 * R, dtype=torch.bool)
    for start in range(
        0, P, block
    ):  # prompt chunks, counted backwards, see the prompt up to their end
        mask[start : start + block, : start + block] = True
    for start in range(0, R, block):
        mask[P + start : P + start + block, : P + start + block] = True
        noisy = slice(P + R + start, P + R + start + block)
        mask[noisy, : P + start] = True
        mask[noisy, noisy] = True
    return mask


def block_rows_loss(
    model: Model, rows: Sequence[tuple[Demonstration, Tensor, Tensor]], block: int
) -> Tensor:
    """Return `-(1/B) sum over rows (1/L1) sum over M log p` of rows `(demonstration, hidden, M)`."""
    positions = torch.cat((torch.arange(P + R), torch.arange(P, P + R)))
    losses: list[Tensor] = []
    for demonstration, hidden, targets in rows:
        clean = torch.tensor(demonstration.response_ids)
        noisy = clean.masked_fill(hidden, model.spec.require_mask_id())
        ids = torch.cat((torch.tensor(demonstration.prompt_ids), clean, noisy))
        logits = model.logits(ids[None], positions, block_mask(block)[None])[0, P + R :]
        losses.append(-log_probs(model, logits, clean)[targets].sum() / R)
    return torch.stack(losses).mean()


def full_rows_loss(model: Model, rows: Sequence[tuple[Demonstration, Tensor, Tensor]]) -> Tensor:
    """Return `-(1/B) sum over rows (1/|M|) sum over M log p` under full attention, shifted or not."""
    losses: list[Tensor] = []
    first = P - int(model.spec.is_shifted)
    for demonstration, hidden, targets in rows:
        clean = torch.tensor(demonstration.response_ids)
        noisy = clean.masked_fill(hidden, model.spec.require_mask_id())
        ids = torch.cat((torch.tensor(demonstration.prompt_ids), noisy))
        logits = model.logits(ids[None])[0, first : first + R]
        losses.append(-log_probs(model, logits, clean)[targets].mean())
    return torch.stack(losses).mean()


def log_probs(model: Model, logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probability of each id, over the ids that may be written."""
    allowed = logits.masked_fill(~model.head.drawable, -torch.inf)
    return allowed.log_softmax(-1).gather(-1, ids[:, None])[:, 0]


def rows_of(
    batch: Sequence[Demonstration], views: Sequence[Views]
) -> Iterator[tuple[Demonstration, Tensor, Tensor]]:
    """Yield the views that have a target, as rows of the published layout."""
    for demonstration, found in zip(batch, views, strict=True):
        assert len(found.canvas_ids) == R
        for hidden, target in zip(found.hidden, found.target, strict=True):
            if target.any():
                yield demonstration, hidden, target


def assert_same_loss(model: Model, ours: Tensor, published: Tensor) -> None:
    """Compare two losses and their gradients; both in fp64."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(ours, weights, allow_unused=True, materialize_grads=True)
    expected = torch.autograd.grad(published, weights, allow_unused=True, materialize_grads=True)
    scale = max(float(gradient.abs().max()) for gradient in expected)
    loss = float(published.detach())
    assert abs(float(ours.detach()) - loss) < 1e-10 * abs(loss) and scale > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert float((mine - theirs).abs().max()) < 1e-10 * scale


def golden(family: str) -> Model:
    """Return the golden weights of a family in fp64."""
    return model_of(f"golden {family}", torch.float64)
