"""Layout: the views of many trajectories in one forward pass, without padding or repeated clean tokens.

For a block-causal model a view of block j depends on the clean blocks before j and its own noisy block
only. So a trajectory is laid out as one clean copy of prompt and canvas, then one noisy copy of every
(block, view) *that has a target*: `P + C + (noisy blocks) * K` tokens for any number of views, where a row per
view would take `views * (P + 2C)`. The clean blocks from the last noisy one on are left out: no scored row
attends to them. The whole blocks of a prompt are a document apart, laid once per pack and shared by its responses.

Under full attention every token depends on every other and nothing can be shared: each view that has a
target is a separate document of prompt and canvas, `views * (P + C)` tokens. Causal views of such a model
are laid out as those of a block-causal one, in blocks of one token. Views that hide different tokens of the prompt
share no clean copy either: each is laid out as a trajectory of its own.

A shifted model predicts position i in the row before it. That row is in the same view, except for the first
position of a block under block-causal attention: the row before it is clean in every view, so that position
needs no noisy copy (and the sampler reveals it first and alone).

A pack holds at most `token_budget` tokens. A larger block-causal trajectory is split between noisy blocks
and repeats its clean prefix; a view under full attention cannot be split.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.conventions import Conventions
from unmask.diffusion.image_vectors import distinct_images, table_ids, table_starts
from unmask.diffusion.move_views import factors_of
from unmask.diffusion.moves import Factors
from unmask.diffusion.views import Views
from unmask.types import PromptImage

# Filler tokens that attend to each other: one tile of attention on a GPU.
DEAD_COPY = 128
# Block size, digest and ids: the digest tells apart prompts of the same ids that are read differently (images).
PrefixKey = tuple[int | bytes, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """Many views laid out for one forward pass.

    Attributes:
        tokens: `(T,)` token ids, the mask id where hidden; negative ones number the vectors of `images`.
        positions: `(T,)` absolute positions.
        structure: `(4, T)` document, block, copy and prefix of each token (`models/attention.py`).
        rows: `(S,)` the scored rows, one per target; views may share the row of a target.
        targets: `(S,)` target ids, or `(S, M)` where several are scored in each row.
        weights: `(S,)`.
        advantages: `(S,)`.
        behavior_logprobs: `(S,)`.
        old_logprobs: `(S,)`.
        temperatures: `(S,)`.
        origin: `(3, S)` trajectory (index into the given views), view and canvas position of each
            target.
        factors: what the likelihood of moves needs of each target; `None` where tokens are scored.
        capacity: number of tokens it is filled up to on a GPU, so that one compiled kernel serves every
            pack.
        images: the distinct pictures of its prompts.
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
    factors: Factors | None = None
    capacity: int = 0
    images: tuple[PromptImage, ...] = ()

    def to(self, device: torch.device) -> "Pack":
        """Return the pack on another device; on a GPU it is filled."""
        whole = -(-self.capacity // DEAD_COPY) * DEAD_COPY  # tiles of attention
        pack = self.filled(whole) if device.type == "cuda" else self
        names = [name for name in self.__slots__ if name not in ("factors", "capacity", "images")]
        columns = {name: getattr(pack, name).to(device) for name in names}
        return replace(pack, **columns, factors=pack.factors and pack.factors.to(device))

    def filled(self, num_tokens: int) -> "Pack":
        """Return the pack, filled to `num_tokens` with one document that is not scored and that no other sees."""
        fill = torch.arange(num_tokens - self.tokens.shape[0], device=self.tokens.device)
        document = torch.full_like(fill, int(self.structure[0, -1]) + 1)
        # Each tile is a copy that sees only itself, so that the filler costs little attention.
        dead = torch.stack(
            (document, torch.zeros_like(fill), 1 + fill // DEAD_COPY, torch.full_like(fill, -1))
        )
        return replace(
            self,
            tokens=torch.cat((self.tokens, torch.zeros_like(fill))),
            positions=torch.cat((self.positions, fill % DEAD_COPY)),
            structure=torch.cat((self.structure, dead), 1),
        )


@dataclass(frozen=True)
class Document:
    """One trajectory, a part of one, or one view of it, laid out but not yet in a pack.

    Attributes:
        trajectory: index into the views that are laid out.
        source: the views it is of.
        prefix_ids: `(P - P mod K,)` the prompt's whole blocks, which documents may share; none under
            full attention.
        laid: `(4, t)` token id, position, block and copy of each token: the clean copy after the prefix,
            then the noisy blocks; or one whole view. Blocks are counted from position 0 and are all 0
            under full attention; copy 0 is the clean one.
        rows: `(s,)` rows that are scored, counted from the first token; -1 is the last of the prefix.
        views: `(s,)` the view that each scored row is of.
        canvas_positions: `(s,)` the position that each scored row predicts.
    """

    trajectory: int
    source: Views
    prefix_ids: Tensor
    laid: Tensor
    rows: Tensor
    views: Tensor
    canvas_positions: Tensor

    @property
    def num_tokens(self) -> int:
        """Tokens of the document, its prefix included."""
        return self.prefix_ids.shape[0] + self.laid.shape[1]

    @cached_property
    def prefix(self) -> PrefixKey | None:
        """The key of the prefix, equal for documents that share it; `None` without a prefix."""
        key = self.source.block, self.source.prefix_digest, *self.prefix_ids.tolist()
        return key if len(self.prefix_ids) else None


def pack_views(
    views: Sequence[Views],
    conventions: Conventions,
    token_budget: int,
    rank: int = 0,
    size: int = 1,
) -> list[Pack]:
    """Return views laid out in as few packs as the budget allows, or the share of one of several ranks.

    Every rank has as many packs, and those that the ranks compute at the same time are of similar size. Where
    a rank would have fewer, it gets an empty pack.

    Args:
        views: one element per trajectory, the same on every rank; those without a target take no space.
        conventions: of the model that will score them.
        token_budget: most tokens of a pack.
        rank: whose packs are returned.
        size: number of ranks.

    Raises:
        ValueError: if the budget is smaller than a part that cannot be split: one noisy block with the
            clean tokens before it, or one view under full attention.
    """
    documents = [
        document
        for trajectory, whole in enumerate(views)
        for source in _by_prompt(whole, conventions.mask_id)
        for document in (
            _lay_out_views(trajectory, source, conventions, token_budget)
            if conventions.is_full and not source.is_causal
            else _lay_out_blocks(trajectory, source, conventions, token_budget)
        )
    ]
    documents.sort(key=lambda document: document.num_tokens)
    # Answers to one prompt stand with the longest of them: a pack holds the prefix of neighbours once.
    longest: dict[PrefixKey | None, int] = {d.prefix: d.num_tokens for d in documents if d.prefix}
    documents.sort(key=lambda d: (longest.get(d.prefix, d.num_tokens), d.prefix or ()))
    if size == 1:
        return [assemble(members, token_budget) for members in _fill(documents, token_budget)]
    capacity, plan = _plan_rounds(documents, token_budget, size)
    num_rounds = -(-len(plan) // size)
    # The longest documents first: what is too large for the memory fails at once. Neighbours hold documents of
    # similar length, whose attention takes similar time.
    plan.reverse()
    own = [assemble(members, capacity) for members in plan[rank::size]]
    return own + [empty_pack(capacity)] * (num_rounds - len(own))


def _by_prompt(views: Views, mask_id: int) -> Iterator[Views]:
    """Yield views apart that hide different tokens of the prompt: they share no clean copy of it."""
    if views.prompt_hidden is None:
        yield views
        return
    for number, hidden in enumerate(views.prompt_hidden):
        # Other views keep their numbers but have no target.
        is_own = torch.arange(len(views.target))[:, None] == number
        prompt_ids = views.prompt_ids.masked_fill(hidden, mask_id)
        yield replace(views, prompt_ids=prompt_ids, target=views.target & is_own)


def _plan_rounds(
    documents: Sequence[Document], token_budget: int, size: int
) -> tuple[int, list[list[Document]]]:
    """Return a capacity and the documents of each pack, so that `size` ranks are busy in every round.

    The fewest rounds are those that the budget allows. The capacity then falls by an eighth at a time, as long
    as there are no more of them: few different ones, so that a GPU compiles few kernels.
    """
    plan, capacity = list(_fill(documents, token_budget)), token_budget
    most = -(-len(plan) // size) * size
    longest = max((document.num_tokens for document in documents), default=token_budget)
    while (smaller := capacity * 7 // 8) >= longest:
        tried = list(_fill(documents, smaller))
        if len(tried) > most:
            break
        plan, capacity = tried, smaller
    return capacity, plan


def check_budget(num_tokens: int, block: int | None, token_budget: int | None) -> None:
    """Refuse a budget smaller than the part of a sequence that cannot be split.

    That is its last block and the tokens before it, or the whole sequence under full attention.

    Args:
        num_tokens: of the longest sequence, prompt and canvas included.
        block: `K`; `None` under full attention.
        token_budget: most tokens of a pack; `None` if it is chosen so that every sequence fits.

    Raises:
        ValueError: naming `optimizer.token_budget` and the number of tokens it needs.
    """
    needed = -(-num_tokens // block) * block if block else num_tokens
    what = f"block of {block} tokens and the clean text before it take" if block else "view takes"
    if token_budget is not None and needed > token_budget:
        raise ValueError(
            f"optimizer.token_budget = {token_budget} is too small: one {what} {needed}; "
            "raise it, or shorten the sequence (in SFT by data.max_tokens with data.too_long)"
        )


def _lay_out_views(
    trajectory: int, source: Views, conventions: Conventions, token_budget: int
) -> Iterator[Document]:
    """Yield every view that has a target as a document with full attention."""
    num_prompt, shift = source.prompt_ids.shape[0], int(conventions.is_shifted)
    assert num_prompt >= shift, "no row is before the first position"
    positions = torch.arange(num_prompt + source.canvas_ids.shape[0])
    for view in source.target.any(-1).nonzero()[:, 0].tolist():
        check_budget(positions.shape[0], None, token_budget)
        canvas_positions = source.target[view].nonzero()[:, 0]
        canvas = source.read_in(view).masked_fill(source.hidden[view], conventions.mask_id)
        tokens = torch.cat((source.prompt_ids, canvas))
        # One block of one noisy copy, which sees itself: there is no grid of blocks.
        blocks, copies = torch.zeros_like(positions), torch.ones_like(positions)
        yield Document(
            trajectory,
            source,
            prefix_ids=source.prompt_ids[:0],
            laid=torch.stack((tokens, positions, blocks, copies)),
            rows=num_prompt + canvas_positions - shift,
            views=torch.full_like(canvas_positions, view),
            canvas_positions=canvas_positions,
        )


def _lay_out_blocks(
    trajectory: int, source: Views, conventions: Conventions, token_budget: int
) -> Iterator[Document]:
    """Yield the clean tokens and noisy copies of blocks, in as many documents as the budget requires."""
    block, offset = source.block, source.prompt_ids.shape[0] % source.block
    shift = int(conventions.is_shifted)
    num_prefix = source.prompt_ids.shape[0] - offset
    assert num_prefix + offset >= shift, "no row is before the first position"
    prefix_ids, tail_ids = source.prompt_ids[:num_prefix], source.prompt_ids[num_prefix:]
    clean = torch.cat((tail_ids, source.canvas_ids)).view(-1, block)  # (blocks, K)
    inputs = clean.expand(len(source.target), -1, -1)  # (N, blocks, K)
    if source.inputs is not None:
        tails = tail_ids.expand(len(source.target), -1)
        inputs = torch.cat((tails, source.inputs), 1).unflatten(1, clean.shape)
    masks = F.pad(torch.stack((source.hidden, source.target)), (offset, 0))
    masks = masks.unflatten(2, clean.shape).transpose(1, 2)  # (2, blocks, N, K)
    # Sorted by block, so that the clean copy of each part is as short as possible.
    wanted = masks[1].any(-1).nonzero()  # (wanted, 2): block, view
    hidden, target = masks[:, wanted[:, 0], wanted[:, 1]]  # (wanted, K) each
    # A shifted model scores a block's first position in the clean row before it: no copy for that alone.
    is_noisy = target[:, shift:].any(-1)
    sizes = num_prefix + wanted[:, 0] * block, is_noisy * block
    for part in _split(*sizes, block, token_budget):
        (blocks, views), copied = wanted[part].T, is_noisy[part]
        num_clean = int(blocks[-1]) * block
        # (part, K): one row per noisy block of this part.
        noisy_ids = inputs[views, blocks].masked_fill(hidden[part], conventions.mask_id)
        noisy_positions = blocks[:, None] * block + torch.arange(block)
        tokens = torch.cat((clean.flatten()[:num_clean], noisy_ids[copied].flatten()))
        positions = torch.cat((torch.arange(num_clean), noisy_positions[copied].flatten()))
        positions += num_prefix
        copies = torch.arange(1, int(copied.sum()) + 1).repeat_interleave(block)
        copies = F.pad(copies, (num_clean, 0))
        pair, column = target[part].nonzero(as_tuple=True)  # (s,) into the grid (part, K)
        # The row of a target in its noisy copy; copies follow the clean tokens in order.
        rows = num_clean + (copied.cumsum(0)[pair] - 1) * block + column - shift
        if shift:  # the row before a block is the last clean row before it
            rows = rows.where(column >= shift, blocks[pair] * block - 1)
        yield Document(
            trajectory,
            source,
            prefix_ids=prefix_ids,
            laid=torch.stack((tokens, positions, positions // block, copies)),
            rows=rows,
            views=views[pair],
            canvas_positions=blocks[pair] * block + column - offset,
        )


def _split(num_clean: Tensor, num_noisy: Tensor, block: int, token_budget: int) -> Iterator[slice]:
    """Yield slices of a trajectory's (block, view) pairs that fit the budget.

    Args:
        num_clean: `(wanted,)` clean tokens before each pair's block, prefix included; ascending.
        num_noisy: `(wanted,)` tokens of the noisy copy of each pair.
        block: `K`.
        token_budget: most tokens of a part.
    """
    start = 0
    while start < len(num_clean):
        # Tokens of a part that ends with each pair: the clean tokens before it and all copies so far.
        sizes = num_clean[start:] + num_noisy[start:].cumsum(0)
        count = int((sizes <= token_budget).sum())
        if count == 0:
            check_budget(int(sizes[0]), block, token_budget)
        yield slice(start, start + count)
        start += count


def _fill(documents: Sequence[Document], token_budget: int) -> Iterator[list[Document]]:
    """Yield groups of documents, in order, each within the budget together with its distinct prefixes."""
    members: list[Document] = []
    prefixes: set[PrefixKey | None] = set()
    used = 0
    for document in documents:
        prefix = document.prefix
        size = document.laid.shape[1] if prefix in prefixes else document.num_tokens
        if members and used + size > token_budget:
            yield members
            members, prefixes, used = [], set(), 0
            size = document.num_tokens
        members.append(document)
        prefixes.add(prefix)
        used += size
    if members:
        yield members


def empty_pack(capacity: int) -> Pack:
    """Return a pack of one token without targets, for a rank that has none while the others pass theirs."""
    one, none = torch.zeros(1, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    numbers = torch.zeros(0, dtype=torch.float64)
    return Pack(
        tokens=one,
        positions=one,
        structure=torch.tensor([[0], [0], [0], [-1]]),
        rows=none,
        targets=none,
        weights=numbers,
        advantages=numbers,
        behavior_logprobs=numbers,
        old_logprobs=numbers,
        temperatures=numbers,
        origin=none.expand(3, 0),
        capacity=capacity,
    )


def _number_images(
    documents: Sequence[Document],
) -> tuple[Sequence[Document], tuple[PromptImage, ...]]:
    """Return documents whose negative ids number the vectors of all their pictures, and those pictures."""
    images = distinct_images(i for document in documents for i in document.source.images)
    if not images:
        return documents, ()
    starts, numbered = table_starts(images), list[Document]()
    for document in documents:
        prefix_ids, tokens = (
            table_ids(ids, document.source.images, starts)
            for ids in (document.prefix_ids, document.laid[0])
        )
        laid = torch.cat((tokens[None], document.laid[1:]))
        numbered.append(replace(document, prefix_ids=prefix_ids, laid=laid))
    return numbered, images


def assemble(documents: Sequence[Document], capacity: int) -> Pack:
    """Return documents as one pack, each distinct prefix laid before the first document that shares it."""
    pieces: list[Tensor] = []  # (4, t) each: `laid`
    members: list[tuple[int, int]] = []  # tokens of each piece, and its prefix's number
    num_tokens = 0
    documents, images = _number_images(documents)

    def put(laid: Tensor, prefix: int) -> None:
        nonlocal num_tokens
        if size := laid.shape[1]:  # empty where all scored rows are in the prefix
            num_tokens += size
            members.append((size, prefix))
            pieces.append(laid)

    # Document number and end row of each prefix.
    prefixes: dict[PrefixKey | None, tuple[int, int]] = {None: (-1, 0)}
    starts: list[tuple[int, int]] = []  # of each document: the end row of its prefix, its first row
    for document in documents:
        key, ids = document.prefix, document.prefix_ids
        if key not in prefixes:
            positions, copies = torch.arange(len(ids)), torch.zeros_like(ids)
            put(torch.stack((ids, positions, positions // document.source.block, copies)), -1)
            prefixes[key] = len(pieces) - 1, num_tokens
        number, end = prefixes[key]
        starts.append((end, num_tokens))
        put(document.laid, number)

    rows = torch.cat([document.rows for document in documents])
    counts = torch.tensor([document.rows.shape[0] for document in documents])
    ends, firsts = torch.tensor(starts).T.repeat_interleave(counts, 1)  # (s,) each
    sizes, prefix = torch.tensor(members).T
    tokens, positions, blocks, copies = torch.cat(pieces, 1)
    numbers = torch.arange(len(pieces)).repeat_interleave(sizes)
    trajectories = torch.tensor([document.trajectory for document in documents])
    places = torch.cat([torch.stack((d.views, d.canvas_positions)) for d in documents], 1)  # (2, s)
    temperatures = torch.tensor([d.source.temperature for d in documents], dtype=torch.float64)

    def gather(read: Callable[[Views, Tensor, Tensor], Tensor]) -> Tensor:
        """Read a column of every target `(s,)`, given its views, view and canvas position."""
        return torch.cat([read(d.source, d.views, d.canvas_positions) for d in documents])

    return Pack(
        tokens=tokens,
        positions=positions,
        structure=torch.stack((numbers, blocks, copies, prefix.repeat_interleave(sizes))),
        rows=rows + torch.where(rows < 0, ends, firsts),
        targets=gather(lambda source, n, i: source.written()[n, i]),
        weights=gather(lambda source, n, i: source.weight[n, i]),
        advantages=gather(lambda source, n, i: source.advantages.expand(source.target.shape)[n, i]),
        behavior_logprobs=gather(lambda source, n, i: source.behavior_logprobs[n, i]),
        old_logprobs=gather(lambda source, n, i: source.old_logprobs[n, i]),
        temperatures=temperatures.repeat_interleave(counts),
        origin=torch.cat((trajectories.repeat_interleave(counts)[None], places)),
        factors=factors_of((d.source, d.views, d.canvas_positions) for d in documents),
        capacity=capacity,
        images=images,
    )
