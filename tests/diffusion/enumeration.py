"""Every path of a small sampler, one by one or merged by canvas, with the software's own `decide`.

The policy is a table: logits of every position in every state of the canvas. At each denoising step all draws
are enumerated, the outcome of each is that of `decide`, and draws with one outcome are one move. Which moves
there are and how probable they are does not depend on `diffusion/moves.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.moves import EDITED, REVEALED, Factors, MoveRules, move_logprobs
from unmask.diffusion.sampling_tensors import SamplingTensors
from unmask.diffusion.token_sampling import Proposal, propose
from unmask.diffusion.unmask import Block, decide, open_now, quota, scored_positions
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Revision, Trajectory

CPU = torch.device("cpu")
# Draws enumerated at a time.
MOST_DRAWS = 200_000


@dataclass(frozen=True)
class Toy:
    """A sampler of canvases of `C` positions with `V` ids; id `V` is the mask. There is no prompt."""

    vocabulary: int
    canvas: int
    params: SamplingParams

    @property
    def num_states(self) -> int:
        """The number of canvases, masks included."""
        return (self.vocabulary + 1) ** self.canvas

    def state(self, tokens: Tensor) -> Tensor:
        """Return the number of each canvas `(..., C)`."""
        return (tokens * (self.vocabulary + 1) ** torch.arange(self.canvas)).sum(-1)

    def policy(self, seed: int, sharpness: float = 1.5) -> Tensor:
        """Return random logits `(states, C, V)`."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.num_states, self.canvas, self.vocabulary)
        return sharpness * torch.randn(shape, dtype=torch.float64, generator=generator)

    def rewards(self, seed: int) -> Tensor:
        """Return a random reward for every canvas."""
        generator = torch.Generator().manual_seed(1000 + seed)
        return torch.rand(self.num_states, dtype=torch.float64, generator=generator)

    def lengths(self, tokens: Tensor) -> Tensor:
        """Return `R` of canvases `(B, C)`; 0 where no response has ended."""
        stops = torch.tensor(self.params.stop_token_ids or (), dtype=torch.int64)
        is_decided = (tokens != self.vocabulary).long().cumprod(-1)  # with everything left of it
        ends = torch.isin(tokens, stops).long() * is_decided
        whole = is_decided[:, -1] * self.canvas
        return torch.where(ends.any(-1), ends.argmax(-1) + 1, whole)

    def reward(self, table: Tensor, tokens: Tensor) -> Tensor:
        """Return the rewards `(B,)` of ended canvases: of the response, whatever is past its end."""
        past = torch.arange(self.canvas) >= self.lengths(tokens)[:, None]
        return table[self.state(tokens.masked_fill(past, self.vocabulary))]


class Place(NamedTuple):
    """What a sampler holds besides the canvas."""

    start: int
    num_masks: int  # of the block when it was opened
    step: int
    edits_left: int


def open_block(toy: Toy, start: int) -> Place:
    """Return the place at the start of a block."""
    size, edits = toy.params.block_size, toy.params.edit_threshold is not None
    assert size is not None
    return Place(start, min(size, toy.canvas - start), 0, toy.params.max_edit_steps * edits)


class Moves(NamedTuple):
    """The `J` moves of one denoising step from `B` states.

    Attributes:
        source: `(J,)` state that each is made in.
        probability: `(J,)` given its state, summed over its draws.
        kinds: `(J, C)` what each position contributes, 0 nothing.
        factors: `(J, C)` log-probabilities by `diffusion/moves.py`; 0 where there is nothing.
        revealed: `(J,)` sum of the log-probabilities of the tokens written.
        after: `(J, C)` the next canvas.
        is_end: `(J,)` whether the response ends.
        place: `(J, 4)` the next `Place`.
        next: `(J,)` the next state; -1 at an end.
    """

    source: Tensor
    probability: Tensor
    kinds: Tensor
    factors: Tensor
    revealed: Tensor
    after: Tensor
    is_end: Tensor
    place: Tensor
    next: Tensor


def enumerate_moves(toy: Toy, theta: Tensor, is_merged: bool = True) -> list[Moves]:
    """Return the moves of every denoising step; with `is_merged` paths that meet in a canvas are one state."""
    tokens = torch.full((1, toy.canvas), toy.vocabulary)
    places = torch.tensor([open_block(toy, 0)])
    levels: list[Moves] = []
    while len(tokens):
        parts = list[Moves]()
        for place in places.unique(dim=0):
            index = (places == place).all(-1).nonzero()[:, 0]
            found = _moves_at(toy, theta, tokens[index], Place(*place.tolist()), len(levels))
            parts.append(found._replace(source=index[found.source]))
        moves = Moves(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
        goes_on = ~moves.is_end
        states = torch.cat((moves.after, moves.place), -1)[goes_on]
        if is_merged and len(states):
            states, index = states.unique(dim=0, return_inverse=True)
        else:
            index = torch.arange(len(states))
        moves.next[goes_on] = index
        levels.append(moves)
        tokens, places = states[:, : toy.canvas], states[:, toy.canvas :]
    return levels


def _moves_at(toy: Toy, theta: Tensor, tokens: Tensor, place: Place, taken: int) -> Moves:
    """Return the moves from canvases `(B, C)` at one place."""
    block, sampling = _block_of(toy, tokens, place, taken)
    size = block.tokens.shape[1]
    here = slice(place.start, place.start + size)
    logits = theta[toy.state(tokens)][:, here]  # (B, K, V)
    with torch.no_grad():
        proposed = _proposals(toy, logits.detach(), block, sampling)
    logprobs = (logits / toy.params.temperature).log_softmax(-1)
    scored = scored_positions(block, sampling)
    states, outcomes, weights = list[Tensor](), list[Tensor](), list[Tensor]()
    for state, drawn in _draws_of(scored, toy.vocabulary):
        at = (state[:, None], torch.arange(size), drawn)  # (D, K)
        grid = Proposal(*(values[at].masked_fill(~scored[state], 0) for values in proposed))
        blocks = Block(*(values[state] for values in block[:7]))
        found = decide(grid, blocks, sampling.take(torch.zeros_like(state)))
        states.append(state)
        outcomes.append(torch.cat((drawn.where(found.chosen, -1), found.remasked.long()), -1))
        weights.append((logprobs[at] * scored[state]).sum(-1).exp())
    keys = torch.cat((torch.cat(states)[:, None], torch.cat(outcomes)), -1)
    keys, inverse = keys.unique(dim=0, return_inverse=True)
    probability = torch.zeros(len(keys), dtype=torch.float64)
    probability = probability.index_add(0, inverse, torch.cat(weights))
    source, drawn, remasked = keys[:, 0], keys[:, 1 : size + 1], keys[:, size + 1 :].bool()
    chosen, written = drawn >= 0, block.written[source]
    ids = drawn.where(chosen, block.tokens[source])
    kinds = MoveRules.of(toy.params).kinds(block.hidden[source], written, chosen, remasked)
    factors = factor_logprobs(kinds, ids, logits[source], toy.params, place.start)
    after = tokens[source].clone()
    after[:, here] = ids.masked_fill(remasked, toy.vocabulary)
    edited = (chosen & written).any(-1)
    is_end, places = _next(toy, place, int(block.step[0]), after, edited, block.hidden[source])
    own = ids.clamp(max=toy.vocabulary - 1)[..., None]
    of_tokens = logprobs[source].gather(-1, own)[..., 0].masked_fill(~chosen, 0).sum(-1)
    beyond = (here.start, toy.canvas - here.stop)  # from the block (J, K) to the canvas (J, C)
    return Moves(
        source=source,
        probability=probability,
        kinds=F.pad(kinds, beyond),
        factors=F.pad(factors, beyond),
        revealed=of_tokens,
        after=after,
        is_end=is_end,
        place=places,
        next=torch.full_like(source, -1),
    )


def _block_of(toy: Toy, tokens: Tensor, place: Place, taken: int) -> tuple[Block, SamplingTensors]:
    """Return the current blocks of `B` canvases, as the reference sampler makes them."""
    size, count = toy.params.block_size, len(tokens)
    assert size is not None
    sampling = SamplingTensors.of([toy.params], CPU).take(torch.zeros(count, dtype=torch.int64))
    here = tokens[:, place.start : place.start + size]
    hidden = here == toy.vocabulary
    num_masks, step = (torch.full((count,), n) for n in (place.num_masks, place.step))
    quotas, step = quota(num_masks, hidden.sum(-1), step, sampling)
    block = Block(
        tokens=here,
        hidden=open_now(hidden, sampling),
        written=~hidden,
        positions=torch.arange(place.start, place.start + here.shape[1]).expand(here.shape),
        taken=torch.full((count,), taken),
        step=step,
        quotas=quotas,
    )
    return block, sampling


def _proposals(toy: Toy, logits: Tensor, block: Block, sampling: SamplingTensors) -> Proposal:
    """Return the proposal where each token is drawn, `(B, K, V)` each, by the sampler's own `propose`.

    A token is drawn by a uniform number in the middle of its interval of the CDF.
    """
    count, size, vocabulary = logits.shape
    probs = (logits / toy.params.temperature).softmax(-1)
    middle = probs.cumsum(-1) - probs / 2
    logits = F.pad(logits, (0, 1)).flatten(0, 1)  # with the mask, (B * K, V + 1)
    drawable = torch.arange(vocabulary + 1) < vocabulary
    row = torch.arange(count * size).repeat_interleave(vocabulary)
    held = block.tokens.flatten()[row]
    found = propose(logits[row], drawable, middle.flatten(), held, sampling.take(row // size))
    found = Proposal(*(values.view(count, size, vocabulary) for values in found))
    assert (found.tokens == torch.arange(vocabulary)).all()
    return found


def _draws_of(scored: Tensor, vocabulary: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield states `(D,)` and tokens `(D, K)` of every draw; token 0 stands where none is drawn."""
    for pattern in scored.unique(dim=0):
        states, columns = ((scored == pattern).all(-1).nonzero()[:, 0], pattern.nonzero()[:, 0])
        drawn = torch.cartesian_prod(*[torch.arange(vocabulary)] * len(columns))
        drawn = drawn.view(-1, len(columns))
        for part in states.split(max(1, MOST_DRAWS // len(drawn))):
            tokens = torch.zeros(len(part), len(drawn), scored.shape[1], dtype=torch.int64)
            tokens[:, :, columns] = drawn
            yield part.repeat_interleave(len(drawn)), tokens.flatten(0, 1)


def factor_logprobs(
    kinds: Tensor, ids: Tensor, logits: Tensor, params: SamplingParams, start: int = 0
) -> Tensor:
    """Return the log-probability `(J, K)` of each factor of `J` moves, and 0 where there is none.

    Args:
        kinds: `(J, K)`.
        ids: `(J, K)` written or standing.
        logits: `(J, K, V)`.
        params: how they were sampled.
        start: position of column 0.
    """
    move, column = kinds.nonzero(as_tuple=True)  # (F,) each
    rules = torch.tensor(MoveRules.of(params).numbers, dtype=torch.float64).expand(len(move), -1)
    factors = Factors.of(kinds[move, column], rank_of(move), column + start, rules)
    temperatures = torch.full((len(move),), params.temperature, dtype=torch.float64)
    own = ids[move, column].clamp(max=logits.shape[-1] - 1)  # the mask id stands at lost positions
    found = move_logprobs(logits[move, column], own, temperatures, factors)
    return torch.zeros(kinds.shape, dtype=logits.dtype).index_put((move, column), found)


def rank_of(numbers: Tensor) -> Tensor:
    """Return numbers `(F,)` from 0 without gaps in place of ascending ones."""
    return numbers.unique(return_inverse=True)[1]


def _next(
    toy: Toy, place: Place, step: int, after: Tensor, edited: Tensor, opened: Tensor
) -> tuple[Tensor, Tensor]:
    """Return whether each response ends `(J,)`, and the next places `(J, 4)`."""
    size = toy.params.block_size
    assert size is not None
    is_hidden = (after[:, place.start : place.start + size] == toy.vocabulary).any(-1)
    edits_left = torch.full((len(after),), place.edits_left)
    edits_left = torch.where(opened.any(-1), edits_left, (edits_left - 1) * edited)
    is_open = is_hidden | (edits_left > 0)
    is_end = (toy.lengths(after) > 0) & (~is_open | (not toy.params.revises))
    same = torch.tensor([place._replace(step=step)]).repeat(len(after), 1)
    same[:, 3] = edits_left
    other = torch.tensor([open_block(toy, place.start + size)])
    return is_end, same.where(is_open[:, None], other)


class Expectation(NamedTuple):
    """What the enumeration finds.

    Attributes:
        reward: expected reward, with a gradient.
        states: for each level, the probability `(B,)` of being in each state, without gradient.
        worth: for each level, the expected reward `(J,)` after each move, without gradient.
    """

    reward: Tensor
    states: list[Tensor]
    worth: list[Tensor]


def expectation(toy: Toy, levels: list[Moves], rewards: Tensor) -> Expectation:
    """Return the expected reward of the enumerated sampler; see `Expectation`."""
    value, worth = torch.zeros(0, dtype=torch.float64), list[Tensor]()
    for moves in reversed(levels):
        ended = toy.reward(rewards, moves.after)
        later = F.pad(value, (0, 1))[moves.next]  # next is -1 at an end
        worth.insert(0, torch.where(moves.is_end, ended, later).detach())
        after = torch.where(moves.is_end, ended, later)
        count = int(moves.source.max()) + 1
        zeros = torch.zeros(count, dtype=torch.float64)
        value = zeros.index_add(0, moves.source, moves.probability * after)
    states = [torch.ones(1, dtype=torch.float64)]
    for moves in levels[:-1]:
        arriving = (states[-1][moves.source] * moves.probability.detach())[~moves.is_end]
        zeros = torch.zeros(int(moves.next.max()) + 1, dtype=torch.float64)
        states.append(zeros.index_add(0, moves.next[~moves.is_end], arriving))
    return Expectation(value[0], states, worth)


def expected_surrogate(levels: list[Moves], found: Expectation, logprobs: list[Tensor]) -> Tensor:
    """Return a number whose gradient is the expected gradient of `reward * sum of logprobs` over paths.

    Args:
        levels: of the enumeration.
        found: of the same.
        logprobs: for each level, `(J,)` of each move.
    """
    terms = [
        (state[moves.source] * moves.probability.detach() * worth * logprob).sum()
        for moves, state, worth, logprob in zip(
            levels, found.states, found.worth, logprobs, strict=True
        )
    ]
    return torch.stack(terms).sum()


def moved(levels: list[Moves]) -> list[Tensor]:
    """Return the log-probability `(J,)` of each move by `diffusion/moves.py`."""
    return [moves.factors.sum(-1) for moves in levels]


def revealed(levels: list[Moves]) -> list[Tensor]:
    """Return the log-probability `(J,)` of the tokens that each move wrote: the published surrogate."""
    return [moves.revealed for moves in levels]


def written_factors(moves: Moves) -> Tensor:
    """Return `(J, C)` bool, the factors of written tokens."""
    return (moves.kinds == REVEALED) | (moves.kinds == EDITED)


class Paths(NamedTuple):
    """The `P` paths of an enumeration that merges none, from the first denoising step to the end.

    Attributes:
        moves: `(P, S)` index of the move at each denoising step; -1 past the end.
        probability: `(P,)`, without gradient.
        canvas: `(P, C)` the last canvas.
        step_map: `(P, C)` the denoising step that wrote each position last, from 1; 0 where none did.
    """

    moves: Tensor
    probability: Tensor
    canvas: Tensor
    step_map: Tensor


def paths_of(toy: Toy, levels: list[Moves]) -> Paths:
    """Return every path, from levels that were not merged."""
    parts = list[Paths]()
    last = len(levels)
    for end, moves in enumerate(levels):
        index = moves.is_end.nonzero()[:, 0]
        chain, probability = torch.full((len(index), last), -1), torch.ones(len(index)).double()
        step_map = torch.zeros(len(index), toy.canvas, dtype=torch.int64)
        canvas = moves.after[index]
        for level in range(end, -1, -1):
            here = levels[level]
            chain[:, level] = index
            probability *= here.probability.detach()[index]
            is_new = written_factors(here)[index] & (step_map == 0) & (canvas != toy.vocabulary)
            step_map[is_new] = level + 1
            if level:
                # The move that leads to a state: those that go on are numbered in order.
                arriving = (~levels[level - 1].is_end).nonzero()[:, 0]
                index = arriving[here.source[index]]
        parts.append(Paths(chain, probability, canvas, step_map))
    return Paths(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def trajectories_of(
    toy: Toy, levels: list[Moves], paths: Paths, prompt: Prompt
) -> list[Trajectory]:
    """Return the record of every path, as a response to a prompt."""
    found = list[Trajectory]()
    for row, canvas in zip(paths.moves.tolist(), paths.canvas.tolist(), strict=True):
        before = [toy.vocabulary] * toy.canvas
        events: list[list[Revision]] = [[] for _ in before]  # by position, the last one stands
        steps = [(levels[n], move) for n, move in enumerate(row) if move >= 0]
        for number, (moves, move) in enumerate(steps, start=1):
            after, kinds = moves.after[move].tolist(), moves.kinds[move].tolist()
            for i, (old, new) in enumerate(zip(before, after, strict=True)):
                if new == toy.vocabulary and old != new:
                    events[i].append(Revision(number, i, new, 0.0, "remask"))
                elif kinds[i] in (REVEALED, EDITED):
                    events[i].append(Revision(number, i, new, 0.0, "write"))
            before = after
        stands = [own.pop() if own and own[-1].kind == "write" else None for own in events]
        revisions = [event for own in events for event in own]
        length = int(toy.lengths(torch.tensor([canvas]))[0])
        is_stop = canvas[length - 1] in (toy.params.stop_token_ids or ())
        found.append(
            Trajectory(
                prompt=prompt,
                canvas_ids=tuple(canvas),
                step_map=tuple(event.step if event else 0 for event in stands),
                behavior_logprobs=(0.0,) * toy.canvas,
                num_response=length,
                finish="stop" if is_stop else "length",
                policy_version=0,
                sampling=toy.params,
                num_forwards=len(steps),
                revisions=tuple(sorted(revisions, key=lambda r: (r.step, r.position))),
                num_steps=len(steps),
            )
        )
    return found


def along(levels: list[Moves], paths: Paths, numbers: list[Tensor]) -> Tensor:
    """Return the sum `(P, ...)` along each path of a number of each move, `(J, ...)` for each level."""
    total: Tensor | float = 0.0
    for level, own in enumerate(numbers):
        row = paths.moves[:, level]
        shape = (-1, *[1] * (own.ndim - 1))
        total = total + own[row.clamp(min=0)] * (row >= 0).view(shape)
    assert isinstance(total, Tensor)
    return total
