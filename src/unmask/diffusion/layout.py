"""Layout: many trajectories' views in one forward pass, without padding and without a token twice.

For a block-causal model a view of block j needs the clean blocks before j and its own noisy block,
nothing else. So a trajectory is laid out as one clean copy of prompt and canvas, then one noisy
copy of every (block, view) *that has a target*: `P + C + (noisy blocks) * K` tokens, however many
views there are, where a row per view would take `views * (P + 2C)`. The clean blocks from the last
noisy one on are left out, because nobody reads them. The whole blocks of a prompt are a document of
their own, laid once per pack and shared by every answer to it.

Under full attention everything depends on everything, and nothing can be shared: each view that has
a target is a document of its own, prompt and canvas, `views * (P + C)` tokens.

A shifted model predicts slot i in the row before it. That row is of the same view, but for the first
slot of a block under block-causal attention: the row before it lies in the clean text, whatever the
view, so that slot needs no noisy copy (and the sampler reveals it first and alone).

A pack holds at most `token_budget` tokens. A block-causal trajectory that is larger by itself is
split between noisy blocks and repeats its clean prefix; a view under full attention cannot be split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.conventions import Conventions
from unmask.diffusion.views import Views

# Tokens of a dead document that see each other: what attention handles at a time on a GPU.
DEAD_COPY = 128


@dataclass(frozen=True, slots=True)
class Pack:
    """Many views laid out for one forward pass.

    Attributes:
        tokens: `(T,)` token ids, the mask id where hidden.
        positions: `(T,)` absolute positions.
        structure: `(4, T)` document, block, copy and prefix of each token (`models/attention.py`).
        rows: `(S,)` the scored rows, one per target; views may share the row of a target.
        targets: `(S,)` target ids.
        weights: `(S,)`.
        advantages: `(S,)`.
        behavior_logprobs: `(S,)`.
        old_logprobs: `(S,)`.
        temperatures: `(S,)`.
        origin: `(3, S)` trajectory (index into the views given), view and canvas slot of each
            target.
        capacity: tokens that a GPU fills it up to, so that one compiled kernel serves every pack.
    """

    tokens: Tensor
    positions: Tensor
    structure: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor
    advantages: Tensor
    behavior_logprobs: Tensor
    old_logprobs: Tensor
    temperatures: Tensor
    origin: Tensor
    capacity: int = 0

    def to(self, device: torch.device) -> "Pack":
        """Return the pack on another device; on a GPU it is filled."""
        pack = self.filled() if device.type == "cuda" else self
        names = [name for name in self.__slots__ if name != "capacity"]
        return replace(pack, **{name: getattr(pack, name).to(device) for name in names})

    def filled(self) -> "Pack":
        """Return the pack filled with a dead document, which nobody else sees and nobody scores.

        It then has its capacity, rounded up to what attention handles at a time.
        """
        whole = -(-self.capacity // DEAD_COPY) * DEAD_COPY
        fill = torch.arange(whole - self.tokens.shape[0])
        document = torch.full_like(fill, int(self.structure[0, -1]) + 1)
        # Copies that see themselves alone, or attention over the dead would be the dearest of all.
        dead = torch.stack(
            (document, torch.zeros_like(fill), 1 + fill // DEAD_COPY, torch.full_like(fill, -1))
        )
        return replace(
            self,
            tokens=torch.cat((self.tokens, torch.zeros_like(fill))),
            positions=torch.cat((self.positions, torch.zeros_like(fill))),
            structure=torch.cat((self.structure, dead), 1),
        )


@dataclass(frozen=True, slots=True)
class Document:
    """One trajectory, a part of one, or one view of it, laid out before it has a place in a pack.

    Attributes:
        trajectory: index into the views given.
        block: `K`.
        prefix_ids: `(P - P mod K,)` the prompt's whole blocks, which another document may share; none
            under full attention.
        tokens: `(t,)` the clean copy after the prefix, then the noisy blocks; or one whole view.
        positions: `(t,)`.
        blocks: `(t,)` block of each token, counted from position 0; all 0 under full attention.
        copies: `(t,)` 0 for the clean copy, else the noisy copy's number.
        rows: `(s,)` rows that are scored, counted from the first token; -1 is the last of the prefix.
        views: `(s,)` view of each scored row.
        slots: `(s,)` canvas slot of each scored row.
    """

    trajectory: int
    block: int
    prefix_ids: Tensor
    tokens: Tensor
    positions: Tensor
    blocks: Tensor
    copies: Tensor
    rows: Tensor
    views: Tensor
    slots: Tensor

    @property
    def num_tokens(self) -> int:
        """Tokens of the document, its prefix included."""
        return self.prefix_ids.shape[0] + self.tokens.shape[0]

    @property
    def prefix(self) -> tuple[int, ...]:
        """What documents that share a prefix have in common: the grid and its ids; `()` for none."""
        return (self.block, *self.prefix_ids.tolist()) if len(self.prefix_ids) else ()


def pack_views(views: Sequence[Views], conventions: Conventions, token_budget: int) -> list[Pack]:
    """Lay views out in as few packs as the budget allows.

    Args:
        views: one element per trajectory; those without a target take no space.
        conventions: of the model that will score them.
        token_budget: most tokens of a pack.

    Raises:
        ValueError: if what cannot be split exceeds the budget: one noisy block and the clean text
            before it, or one view under full attention.
    """
    documents = [
        document
        for trajectory, looks in enumerate(views)
        for document in lay_out(trajectory, looks, conventions, token_budget)
    ]
    documents.sort(key=lambda document: document.num_tokens)
    packs = [assemble(members, views) for members in _fill(documents, token_budget)]
    return [replace(pack, capacity=token_budget) for pack in packs]


def check_budget(num_tokens: int, block: int | None, token_budget: int) -> None:
    """Refuse a budget that could not hold the part of a sequence that cannot be split.

    That is its last block and the text before it, or all of it under full attention.

    Args:
        num_tokens: of the longest sequence, prompt and canvas included.
        block: `K`; `None` under full attention.
        token_budget: most tokens of a pack.

    Raises:
        ValueError: naming `optimizer.token_budget` and what is needed.
    """
    needed = -(-num_tokens // block) * block if block else num_tokens
    what = f"block of {block} tokens and the clean text before it take" if block else "view takes"
    if needed > token_budget:
        raise ValueError(
            f"optimizer.token_budget = {token_budget} is too small: one {what} {needed}"
        )


def lay_out(
    trajectory: int, looks: Views, conventions: Conventions, token_budget: int
) -> Iterator[Document]:
    """Lay one trajectory out: as one document, as several if it exceeds the budget, or view by view."""
    assert not conventions.is_shifted or len(looks.prompt_ids), "no row is before the first slot"
    if conventions.is_full:
        return _lay_out_views(trajectory, looks, conventions, token_budget)
    return _lay_out_blocks(trajectory, looks, conventions, token_budget)


def _lay_out_views(
    trajectory: int, looks: Views, conventions: Conventions, token_budget: int
) -> Iterator[Document]:
    """Lay every view that has a target out as a document in which all see all."""
    num_prompt = looks.prompt_ids.shape[0]
    positions = torch.arange(num_prompt + looks.canvas_ids.shape[0])
    for view in looks.target.any(-1).nonzero()[:, 0].tolist():
        check_budget(positions.shape[0], None, token_budget)
        slots = looks.target[view].nonzero()[:, 0]
        canvas = looks.canvas_ids.masked_fill(looks.hidden[view], conventions.mask_id)
        yield Document(
            trajectory=trajectory,
            block=looks.block,
            prefix_ids=looks.prompt_ids[:0],
            tokens=torch.cat((looks.prompt_ids, canvas)),
            positions=positions,
            # One block of one copy, which sees itself: the canvas is not a block on a grid.
            blocks=torch.zeros_like(positions),
            copies=torch.ones_like(positions),
            rows=num_prompt + slots - int(conventions.is_shifted),
            views=torch.full_like(slots, view),
            slots=slots,
        )


def _lay_out_blocks(
    trajectory: int, looks: Views, conventions: Conventions, token_budget: int
) -> Iterator[Document]:
    """Lay clean text and noisy copies of blocks out, in as many documents as the budget asks for."""
    block, offset = looks.block, looks.prompt_ids.shape[0] % looks.block
    shift = int(conventions.is_shifted)
    num_prefix = looks.prompt_ids.shape[0] - offset
    prefix_ids, tail_ids = looks.prompt_ids[:num_prefix], looks.prompt_ids[num_prefix:]
    clean = torch.cat((tail_ids, looks.canvas_ids)).view(-1, block)  # (blocks, K)
    hidden = F.pad(looks.hidden, (offset, 0)).unflatten(1, clean.shape)  # (N, blocks, K)
    target = F.pad(looks.target, (offset, 0)).unflatten(1, clean.shape)
    # Sorted by block, so that a part needs as short a clean copy as possible.
    wanted = target.any(-1).T.nonzero()  # (wanted, 2): block, view
    is_noisy = target[wanted[:, 1], wanted[:, 0], shift:].any(-1)
    sizes = num_prefix + wanted[:, 0] * block, is_noisy * block
    for part in _split(*sizes, block, token_budget):
        (blocks, views), copied = wanted[part].T, is_noisy[part]
        num_clean = int(blocks[-1]) * block
        noisy_ids = clean[blocks].masked_fill(hidden[views, blocks], conventions.mask_id)
        noisy_positions = blocks[:, None] * block + torch.arange(block)
        positions = torch.cat((torch.arange(num_clean), noisy_positions[copied].flatten()))
        copies = torch.arange(1, int(copied.sum()) + 1).repeat_interleave(block)
        pair, column = target[views, blocks].nonzero(as_tuple=True)
        rows = num_clean + (copied.cumsum(0)[pair] - 1) * block + column - shift
        yield Document(
            trajectory=trajectory,
            block=block,
            prefix_ids=prefix_ids,
            tokens=torch.cat((clean.flatten()[:num_clean], noisy_ids[copied].flatten())),
            positions=positions + num_prefix,
            blocks=(positions + num_prefix) // block,
            copies=F.pad(copies, (num_clean, 0)),
            # The row before a block is the last of the clean text before it.
            rows=rows.where(column >= shift, blocks[pair] * block - 1),
            views=views[pair],
            slots=noisy_positions[pair, column] - offset,
        )


def _split(num_clean: Tensor, num_noisy: Tensor, block: int, token_budget: int) -> Iterator[slice]:
    """Cut what is wanted of a trajectory into parts that fit the budget.

    Args:
        num_clean: `(wanted,)` tokens of clean text before each, prefix included; ascending.
        num_noisy: `(wanted,)` tokens of the noisy copy of each.
        block: `K`.
        token_budget: most tokens of a part.
    """
    start = 0
    while start < len(num_clean):
        # Tokens of a part that ends with each: the clean text before that one, and all the copies.
        sizes = num_clean[start:] + num_noisy[start:].cumsum(0)
        count = int((sizes <= token_budget).sum())
        if count == 0:
            check_budget(int(sizes[0]), block, token_budget)
        yield slice(start, start + count)
        start += count


def _fill(documents: Sequence[Document], token_budget: int) -> Iterator[list[Document]]:
    """Group documents, in order, so that each group fits the budget with its distinct prefixes."""
    members: list[Document] = []
    prefixes: set[tuple[int, ...]] = set()
    used = 0
    for document in documents:
        prefix = document.prefix
        size = document.tokens.shape[0] if prefix in prefixes else document.num_tokens
        if members and used + size > token_budget:
            yield members
            members, prefixes, used = [], set(), 0
            size = document.num_tokens
        members.append(document)
        prefixes.add(prefix)
        used += size
    if members:
        yield members


@dataclass(slots=True)
class _Shelf:
    """What a pack has so far: the pieces of text, and the document number and prefix of each."""

    pieces: list[tuple[Tensor, Tensor, Tensor, Tensor]]
    prefix_of: list[int]
    num_tokens: int = 0

    def put(self, piece: tuple[Tensor, Tensor, Tensor, Tensor], prefix: int) -> int:
        """Append a document's tokens, positions, blocks and copies; return its first row."""
        start = self.num_tokens
        if piece[0].shape[0]:  # all that is scored may be rows of its prefix
            self.pieces.append(piece)
            self.prefix_of.append(prefix)
        self.num_tokens += piece[0].shape[0]
        return start


def assemble(documents: Sequence[Document], views: Sequence[Views]) -> Pack:
    """Join documents into one pack, each distinct prefix laid before the first document that needs it."""
    shelf = _Shelf([], [])
    prefixes: dict[tuple[int, ...], tuple[int, int]] = {(): (-1, 0)}  # its number, and its end
    rows: list[Tensor] = []
    for document in documents:
        key = document.prefix
        if key not in prefixes:
            number = len(shelf.pieces)
            positions = torch.arange(len(document.prefix_ids))
            blocks = positions // document.block
            shelf.put((document.prefix_ids, positions, blocks, torch.zeros_like(positions)), -1)
            prefixes[key] = number, shelf.num_tokens
        number, end = prefixes[key]
        piece = (document.tokens, document.positions, document.blocks, document.copies)
        start = shelf.put(piece, number)
        rows.append(document.rows + torch.where(document.rows < 0, end, start))

    tokens, positions, blocks, copies = (
        torch.cat(part) for part in zip(*shelf.pieces, strict=True)
    )
    sizes = torch.tensor([piece[0].shape[0] for piece in shelf.pieces])
    numbers = torch.arange(len(shelf.pieces)).repeat_interleave(sizes)
    prefix = torch.tensor(shelf.prefix_of).repeat_interleave(sizes)
    looks = [views[document.trajectory] for document in documents]
    counts = torch.tensor([document.rows.shape[0] for document in documents])
    pairs = list(zip(looks, documents, strict=True))
    return Pack(
        tokens=tokens,
        positions=positions,
        structure=torch.stack((numbers, blocks, copies, prefix)),
        rows=torch.cat(rows),
        targets=torch.cat([v.canvas_ids[d.slots] for v, d in pairs]),
        weights=torch.cat([v.weight[d.views, d.slots] for v, d in pairs]),
        advantages=torch.cat([v.advantages[d.slots] for v, d in pairs]),
        behavior_logprobs=torch.cat([v.behavior_logprobs[d.slots] for v, d in pairs]),
        old_logprobs=torch.cat([v.old_logprobs[d.views, d.slots] for v, d in pairs]),
        temperatures=torch.tensor(
            [v.temperature for v in looks], dtype=torch.float64
        ).repeat_interleave(counts),
        origin=torch.stack(
            (
                torch.tensor([d.trajectory for d in documents]).repeat_interleave(counts),
                torch.cat([d.views for d in documents]),
                torch.cat([d.slots for d in documents]),
            )
        ),
    )
