"""The published layout of a TraceRL update (arXiv 2509.06949): one padded row per denoising round.

Row k of a block-causal trajectory stands at the k-th reveal of every block at once,

    [ prompt | clean response | noisy response ]      L0 + 2 * L1 tokens

and a row of a full-attention model is [ prompt | noisy response ]. Rows are padded to the longest prompt
and response of the step, attend under one dense mask, and the head is run on every token of them. What
the published code does once per step (the mask of a row without padding) is done once here too; blocks
start at absolute position 0, as this package's do, so that the gradient is the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from update_workloads import Pass, Workload

from unmask.diffusion.layout import Pack
from unmask.diffusion.views import Views
from unmask.models.attention import sees
from unmask.models.heads import Scores
from unmask.models.transformer import Images, Model


def attend_rows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention of `q (B, Lq, H, E)` over `k, v (B, Lk, Hk, E)` under a bool mask `(B, 1, Lq, Lk)`."""
    mixed = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return mixed.transpose(1, 2)


@dataclass(frozen=True, slots=True)
class RowAttend:
    """Dense attention within rows that stand side by side: `mask (B, 1, N, N)`."""

    mask: Tensor

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within rows; nothing is gathered, because every row has the same length."""
        shape = (self.mask.shape[0], self.mask.shape[-1])
        # As published, keys and values are repeated for the heads that share them: under a mask torch's
        # memory-efficient kernel takes no fewer of them, and the plain one would hold the scores of all pairs.
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        q, k, v = (x.unflatten(0, shape) for x in (q, k, v))
        return attend_rows(q, k, v, self.mask).flatten(0, 1)


class RowShape(NamedTuple):
    """The padded lengths of some rows: `L0` of whole prompt blocks, `L1` of the rest, and the grid.

    `block` is 0 under full attention, where a row has no clean copy.
    """

    prompt: int
    response: int
    block: int

    @property
    def length(self) -> int:
        """Return the tokens of a row."""
        return self.prompt + self.response * (2 if self.block else 1)


class Row(NamedTuple):
    """One round of one trajectory."""

    trajectory: int
    view: int


def rows(work: Workload) -> Iterator[Pass]:
    """Lay an update out as published: rows in order, all padded to the longest of the batch."""
    everything = rounds(work.views)
    shape = shape_of(everything, work)
    count = max(1, work.token_budget // shape.length)
    for start in range(0, len(everything), count):
        yield lay_rows(everything[start : start + count], shape, work)


def rows_sorted(work: Workload) -> Iterator[Pass]:
    """Sort rows by length, and pad them to the longest of their pass: nearly no padding."""
    waiting = sorted(rounds(work.views), key=lambda row: shape_of([row], work).length)
    while waiting:
        count = 1
        while count < len(waiting):
            length = shape_of(waiting[: count + 1], work).length
            if (count + 1) * length > work.token_budget:
                break
            count += 1
        yield lay_rows(waiting[:count], shape_of(waiting[:count], work), work)
        waiting = waiting[count:]


def rounds(views: Sequence[Views]) -> list[Row]:
    """Return every round of every trajectory: a view stands at the k-th reveal of all its blocks."""
    return [Row(number, view) for number, v in enumerate(views) for view in range(len(v.target))]


def shape_of(members: Sequence[Row], work: Workload) -> RowShape:
    """Return the padded lengths of some rows."""
    block = 0 if work.model.spec.is_full else work.views[members[0].trajectory].block
    found = [work.views[number] for number in dict.fromkeys(row.trajectory for row in members)]
    offsets = [v.prompt_ids.shape[0] % block if block else 0 for v in found]
    return RowShape(
        max(v.prompt_ids.shape[0] - offset for v, offset in zip(found, offsets, strict=True)),
        max(v.canvas_ids.shape[0] + offset for v, offset in zip(found, offsets, strict=True)),
        block,
    )


def lay_rows(members: Sequence[Row], shape: RowShape, work: Workload) -> Pass:
    """Lay rows side by side; every slot of the noisy copy is scored, and counts where it is a target."""
    batch, length = len(members), shape.length
    noisy = length - shape.response  # where the noisy copy starts
    tokens = torch.zeros(batch, length, dtype=torch.int64)
    positions = torch.zeros_like(tokens)
    is_token = torch.ones(batch, length, dtype=torch.bool)
    scored = {name: torch.zeros(batch, shape.response) for name in ("weights", "advantages")}
    for name in ("behavior_logprobs", "old_logprobs"):
        scored[name] = torch.zeros(batch, shape.response, dtype=torch.float64)
    drawable = int(work.model.head.drawable.nonzero()[0])  # any id whose log-probability is finite
    targets = torch.full((batch, shape.response), drawable)
    temperatures = torch.ones(batch, shape.response, dtype=torch.float64)
    for place, (number, view) in enumerate(members):
        v = work.views[number]
        num_prompt, num_canvas = v.prompt_ids.shape[0], v.canvas_ids.shape[0]
        offset = num_prompt % shape.block if shape.block else 0
        first = shape.prompt - (num_prompt - offset)
        clean = torch.cat((v.prompt_ids, v.canvas_ids))
        tail = clean[num_prompt - offset :].clone()
        tail[offset:].masked_fill_(v.hidden[view], work.mask_id)
        tokens[place, first : first + len(clean)] = clean
        tokens[place, noisy : noisy + len(tail)] = tail
        text = torch.arange(shape.prompt + shape.response - first)
        positions[place, first : first + len(text)] = text
        positions[place, noisy:] = text[shape.prompt - first :]
        is_token[place, :first] = False
        if not shape.block:  # block-causal: no position attends to those right of the last block
            is_token[place, noisy + len(tail) :] = False
        of_canvas = slice(offset, offset + num_canvas)
        target = v.target[view]
        scored["weights"][place, of_canvas] = v.weight[view] * target
        scored["advantages"][place, of_canvas] = v.advantages
        scored["behavior_logprobs"][place, of_canvas] = v.behavior_logprobs[view]
        scored["old_logprobs"][place, of_canvas] = v.old_logprobs[view]
        targets[place, of_canvas] = torch.where(target, v.canvas_ids, drawable)
        temperatures[place] = v.temperature
    # On the model's device: on the host, 17k tokens squared would take longer than a layer does.
    device = work.model.device
    sees_itself = torch.eye(length, dtype=torch.bool, device=device)
    mask = row_pattern(shape, device) & is_token.to(device)[:, None] | sees_itself
    pack = Pack(
        tokens=tokens.flatten(),
        positions=positions.flatten(),
        structure=torch.empty(4, 0, dtype=torch.int64),
        rows=torch.arange(batch * length).view(batch, length)[:, noisy:].flatten(),
        targets=targets.flatten(),
        temperatures=temperatures.flatten(),
        origin=torch.empty(3, 0, dtype=torch.int64),
        **{name: values.flatten() for name, values in scored.items()},
    ).to(device)
    attend = RowAttend(mask[:, None])
    return Pass(pack, attend, mask.numel(), batch * length, score_every_row)


@lru_cache(maxsize=1)
def row_pattern(shape: RowShape, device: torch.device) -> Tensor:
    """Return `(N, N)` who sees whom in a row without padding; prompts are padded by whole blocks."""
    if not shape.block:
        return torch.ones(shape.length, shape.length, dtype=torch.bool, device=device)
    clean = torch.arange(shape.prompt + shape.response, device=device) // shape.block
    blocks = torch.cat((clean, clean[shape.prompt :]))
    copies = (torch.arange(shape.length, device=device) >= len(clean)).long()
    nothing = torch.zeros_like(blocks)
    structure = torch.stack((nothing, blocks, copies, nothing - 1)).int()
    return sees(structure[:, :, None], structure[:, None, :])


def score_every_row(model: Model, step: Pass, images: Images | None = None) -> Scores:
    """Score as published: logits of every token, a copy of those that are kept, their log-softmax."""
    pack = step.pack
    everything = torch.arange(pack.tokens.shape[0], device=pack.tokens.device)
    logits = model(pack.tokens, pack.positions, step.attend, everything, images=images)
    assert isinstance(logits, Tensor)
    kept = logits.index_select(0, pack.rows) / pack.temperatures[:, None].to(logits.dtype)
    logprobs = F.log_softmax(kept.masked_fill_(~model.head.drawable, -torch.inf), -1)
    found = logprobs.gather(1, pack.targets[:, None])[:, 0]
    return Scores(found, torch.zeros_like(found))  # entropy is a statistic, which they do not take
