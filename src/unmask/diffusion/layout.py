"""Layout: many trajectories' views in one forward pass, without padding and without a token twice.

For a block-causal model a view of block j needs the clean blocks before j and its own noisy block,
nothing else. So a trajectory is laid out as one clean copy of prompt and canvas, then one noisy
copy of every (block, view) *that has a target*: `P + C + (noisy blocks) * K` tokens, however many
views there are, where a row per view would take `views * (P + 2C)`. The clean blocks from the last
noisy one on are left out, because nobody reads them. The whole blocks of a prompt are a document of
their own, laid once per pack and shared by every answer to it.

A pack holds at most `token_budget` tokens. A trajectory that is larger by itself is split between
noisy blocks and repeats its clean prefix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.views import Views


@dataclass(frozen=True, slots=True)
class Pack:
    """Many views laid out for one forward pass.

    Attributes:
        tokens: `(T,)` token ids, the mask id where hidden.
        positions: `(T,)` absolute positions.
        structure: `(4, T)` document, block, copy and prefix of each token (`models/attention.py`).
        rows: `(S,)` the scored rows, one per target.
        targets: `(S,)` target ids.
        weights: `(S,)`.
        advantages: `(S,)`.
        behavior_logprobs: `(S,)`.
        old_logprobs: `(S,)`.
        temperatures: `(S,)`.
        origin: `(3, S)` trajectory (index into the views given), view and canvas slot of each
            target.
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

    def to(self, device: torch.device) -> "Pack":
        """Return the pack on another device."""
        return Pack(**{name: getattr(self, name).to(device) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Document:
    """One trajectory, or a part of one, laid out before it has a place in a pack.

    Attributes:
        trajectory: index into the views given.
        block: `K`.
        prefix_ids: `(P - P mod K,)` the prompt's whole blocks, which another document may share.
        tokens: `(t,)` the clean copy after the prefix, then the noisy blocks.
        positions: `(t,)`.
        blocks: `(t,)` block of each token, counted from position 0.
        copies: `(t,)` 0 for the clean copy, else the noisy copy's number.
        rows: `(s,)` rows of the document that are scored.
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


def pack_views(views: Sequence[Views], mask_id: int, token_budget: int) -> list[Pack]:
    """Lay views out in as few packs as the budget allows.

    Args:
        views: one element per trajectory; those without a target take no space.
        mask_id: id that stands for a hidden token.
        token_budget: most tokens of a pack.

    Raises:
        ValueError: if one noisy block and the clean text before it exceed the budget.
    """
    documents = [
        document
        for trajectory, looks in enumerate(views)
        for document in lay_out(trajectory, looks, mask_id, token_budget)
    ]
    documents.sort(key=lambda document: document.num_tokens)
    return [assemble(members, views) for members in _fill(documents, token_budget)]


def check_budget(num_tokens: int, block: int, token_budget: int) -> None:
    """Refuse a budget that could not hold the last block of a sequence and the text before it.

    Args:
        num_tokens: of the longest sequence, prompt included.
        block: `K`.
        token_budget: most tokens of a pack.

    Raises:
        ValueError: naming `optimizer.token_budget` and what is needed.
    """
    needed = -(-num_tokens // block) * block
    if needed > token_budget:
        raise ValueError(
            f"optimizer.token_budget = {token_budget} is too small: one block of "
            f"{block} tokens and the clean text before it take {needed}"
        )


def lay_out(trajectory: int, looks: Views, mask_id: int, token_budget: int) -> Iterator[Document]:
    """Lay one trajectory out as a document, or as several when it exceeds the budget."""
    block, offset = looks.block, looks.prompt_ids.shape[0] % looks.block
    num_prefix = looks.prompt_ids.shape[0] - offset
    prefix_ids, tail_ids = looks.prompt_ids[:num_prefix], looks.prompt_ids[num_prefix:]
    clean = torch.cat((tail_ids, looks.canvas_ids)).view(-1, block)  # (blocks, K)
    hidden = F.pad(looks.hidden, (offset, 0)).unflatten(1, clean.shape)  # (N, blocks, K)
    target = F.pad(looks.target, (offset, 0)).unflatten(1, clean.shape)
    # Noisy copies in the order of their blocks, so that a part needs as short a clean copy as possible.
    noisy = target.any(-1).T.nonzero()  # (noisy, 2): block, view
    within = torch.arange(block)
    for part in _split(noisy, num_prefix, block, token_budget):
        blocks, views = part.T
        num_clean = int(blocks[-1]) * block
        noisy_ids = clean[blocks].masked_fill(hidden[views, blocks], mask_id)
        noisy_positions = blocks[:, None] * block + within
        positions = torch.cat((torch.arange(num_clean), noisy_positions.flatten())) + num_prefix
        copy, column = target[views, blocks].nonzero(as_tuple=True)
        yield Document(
            trajectory=trajectory,
            block=block,
            prefix_ids=prefix_ids,
            tokens=torch.cat((clean.flatten()[:num_clean], noisy_ids.flatten())),
            positions=positions,
            blocks=positions // block,
            copies=F.pad(torch.arange(1, len(part) + 1).repeat_interleave(block), (num_clean, 0)),
            rows=num_clean + copy * block + column,
            views=views[copy],
            slots=noisy_positions[copy, column] - offset,
        )


def _split(noisy: Tensor, num_prefix: int, block: int, token_budget: int) -> Iterator[Tensor]:
    """Cut `(noisy, 2)` block-and-view pairs into parts that fit the budget with their clean text."""
    while len(noisy):
        # Tokens of a part that ends with each pair: the clean blocks before it, and all its copies.
        copies = torch.arange(1, len(noisy) + 1)
        sizes = num_prefix + (noisy[:, 0] + copies) * block
        count = int((sizes <= token_budget).sum())
        if count == 0:
            check_budget(int(sizes[0]), block, token_budget)
        yield noisy[:count]
        noisy = noisy[count:]


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
        self.pieces.append(piece)
        self.prefix_of.append(prefix)
        self.num_tokens += piece[0].shape[0]
        return start


def assemble(documents: Sequence[Document], views: Sequence[Views]) -> Pack:
    """Join documents into one pack, each distinct prefix laid before the first document that needs it."""
    shelf = _Shelf([], [])
    prefix_number: dict[tuple[int, ...], int] = {(): -1}
    starts: list[int] = []
    for document in documents:
        key = document.prefix
        if key not in prefix_number:
            prefix_number[key] = len(shelf.pieces)
            positions = torch.arange(len(document.prefix_ids))
            blocks = positions // document.block
            shelf.put((document.prefix_ids, positions, blocks, torch.zeros_like(positions)), -1)
        piece = (document.tokens, document.positions, document.blocks, document.copies)
        starts.append(shelf.put(piece, prefix_number[key]))

    tokens, positions, blocks, copies = (
        torch.cat(part) for part in zip(*shelf.pieces, strict=True)
    )
    sizes = torch.tensor([piece[0].shape[0] for piece in shelf.pieces])
    numbers = torch.arange(len(shelf.pieces)).repeat_interleave(sizes)
    prefixes = torch.tensor(shelf.prefix_of).repeat_interleave(sizes)
    looks = [views[document.trajectory] for document in documents]
    counts = torch.tensor([document.rows.shape[0] for document in documents])
    pairs = list(zip(looks, documents, strict=True))
    return Pack(
        tokens=tokens,
        positions=positions,
        structure=torch.stack((numbers, blocks, copies, prefixes)),
        rows=torch.cat([d.rows + start for d, start in zip(documents, starts, strict=True)]),
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
