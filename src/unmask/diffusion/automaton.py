"""A finite automaton over token ids, which accepts the responses that structured output allows.

It is the byte automaton of a pattern, walked by every token's bytes. Tokens that lead every state to the same
next state are one *class*; a pattern of hundreds of states has hundreds of classes where the vocabulary has
tens of thousands of tokens. A stop token may follow where the text is complete, and then only stop tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Edges that one step of the filter goes over; more would take longer than the model.
MOST_EDGES = 500_000
# States walked at a time: a table of so many rows and one column per token is alive.
CHUNK = 64
NEVER = 2**40  # tokens to acceptance of a state that never accepts


@dataclass(frozen=True, slots=True)
class Automaton:
    """States 0 to `S - 1`, state 0 first, on CPU; in the last one the response has ended.

    Attributes:
        classes: `(V,)` class of each token id.
        members: `(V,)` token ids ordered by class, ascending in each.
        starts: `(C + 1,)` where the members of each class begin.
        table: `(S, C)` next state by state and class; -1 where the token is not allowed.
        source: `(E,)` state, of every allowed pair of state and class.
        token_class: `(E,)` its class.
        target: `(E,)` its next state.
        distance: `(S,)` fewest tokens to a state at which the response may end; 0 where it may.
    """

    classes: Tensor
    members: Tensor
    starts: Tensor
    table: Tensor
    source: Tensor
    token_class: Tensor
    target: Tensor
    distance: Tensor

    @property
    def num_states(self) -> int:
        """The number of states."""
        return len(self.table)

    def walk(self, token_ids: Sequence[int], state: int = 0) -> int:
        """Return the state after token ids; -1 where they are not allowed."""
        for token_class in self.classes[torch.tensor(token_ids, dtype=torch.int64)].tolist():
            if state >= 0:
                state = int(self.table[state, token_class])
        return state


def build_automaton(
    next_state: Tensor,
    is_final: Tensor,
    token_bytes: Sequence[bytes],
    stop_ids: Sequence[int],
    drawable: Tensor,
) -> Automaton:
    """Return the automaton over token ids of a pattern.

    Args:
        next_state: `(S', 256)` byte automaton of the pattern, state 0 first; -1 where no text goes on.
        is_final: `(S',)` bool, whether a text that ends there matches.
        token_bytes: `V` texts; empty for tokens that have none.
        stop_ids: token ids that end a response; their texts do not count.
        drawable: `(V,)` bool, the ids that may be written.

    Raises:
        ValueError: if no stop token may be written, or the automaton has more than `MOST_EDGES` edges.
    """
    drawable = drawable.cpu()
    stops = [token for token in stop_ids if token < len(drawable) and drawable[token]]
    if not stops:
        raise ValueError(
            f"stop_token_ids = {tuple(stop_ids)}: structured output ends with a stop token, and the "
            "model can write none of these"
        )
    # Ids past the tokenizer's, ids that may not be written and stop tokens have no text.
    has_text = {*drawable[: len(token_bytes)].nonzero()[:, 0].tolist()} - {*stop_ids}
    texts = [token_bytes[i] if i in has_text else b"" for i in range(len(drawable))]
    classes, table = _classes(next_state, texts)
    classes[torch.tensor(stops)] = table.shape[1]
    table = _with_end(table, is_final)
    distance = _distance(table, is_final)
    # Next states that can no longer accept are not allowed.
    table = table.where((table >= 0) & (distance[table] < NEVER), -1)
    source, token_class = (table >= 0).nonzero(as_tuple=True)
    if len(source) > MOST_EDGES:
        raise ValueError(
            f"its automaton over tokens has {len(source):,} edges, more than {MOST_EDGES:,}: simplify it"
        )
    counts = torch.bincount(classes, minlength=table.shape[1])
    starts = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return Automaton(
        classes=classes,
        members=classes.argsort(stable=True),
        starts=starts,
        table=table,
        source=source,
        token_class=token_class,
        target=table[source, token_class],
        distance=distance,
    )


def _classes(next_state: Tensor, texts: Sequence[bytes]) -> tuple[Tensor, Tensor]:
    """Return the class `(V,)` of each text, and the next state `(S', C)` by state and class."""
    num_states = len(next_state)
    lengths = torch.tensor([len(text) for text in texts])
    width = max(1, int(lengths.max()))
    joined = bytearray(b"".join(text.ljust(width, b"\0") for text in texts))
    letters = torch.frombuffer(joined, dtype=torch.uint8).view(len(texts), width).long()
    # A text's next states, as two random 64-bit sums: those of two that differ agree once in 2**128.
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(-(2**63), 2**63 - 1, (2, num_states), generator=generator)
    sums = torch.zeros(2, len(texts), dtype=torch.int64)
    for states in torch.arange(num_states).split(CHUNK):
        state, text, target = _walk(next_state, states, letters, lengths)
        sums.index_add_(1, text, keys[:, state] * (target + 1))
    _, classes = sums.unique(dim=1, return_inverse=True)
    count = int(classes.max()) + 1
    # Any text of a class stands for it.
    chosen = torch.zeros(count, dtype=torch.int64).scatter_(0, classes, torch.arange(len(texts)))
    every = torch.arange(num_states)
    state, token_class, target = _walk(next_state, every, letters[chosen], lengths[chosen])
    table = torch.full((num_states, count), -1)
    table[state, token_class] = target
    return classes, table


def _walk(
    next_state: Tensor, states: Tensor, letters: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return state, text and next state, `(n,)` each, of every allowed pair of a state and a text.

    Args:
        next_state: `(S', 256)`, -1 where a byte is not allowed.
        states: the states to start from.
        letters: `(texts, longest)` bytes.
        lengths: `(texts,)`; a text of length 0 is never allowed.
    """
    starts = next_state[states].index_select(1, letters[:, 0])  # (states, texts)
    row, text = ((starts >= 0) & (lengths > 0)).nonzero(as_tuple=True)
    state, current = states[row], starts[row, text]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for index in range(1, letters.shape[1] + 1):
        is_read = lengths[text] == index
        found.append((state[is_read], text[is_read], current[is_read]))
        state, text, current = (x[~is_read] for x in (state, text, current))
        if not len(text):
            break
        current = next_state[current, letters[text, index]]
        is_alive = current >= 0
        state, text, current = (x[is_alive] for x in (state, text, current))
    first, second, third = (torch.cat(parts) for parts in zip(*found, strict=True))
    return first, second, third


def _with_end(table: Tensor, is_final: Tensor) -> Tensor:
    """Return a table `(S' + 1, C + 1)` with the state after the end, and the class of stop tokens."""
    num_states = len(table)
    ended = table.new_full((1, table.shape[1]), -1)
    stop = torch.where(is_final, num_states, -1)[:, None]
    return torch.cat(
        (torch.cat((table, ended)), torch.cat((stop, stop.new_tensor([[num_states]])))), 1
    )


def _distance(table: Tensor, is_final: Tensor) -> Tensor:
    """Return the fewest tokens `(S,)` from each state to one at which the response may end."""
    distance = torch.full((len(table),), NEVER)
    distance[:-1][is_final] = 0
    distance[-1] = 0
    source, token_class = (table >= 0).nonzero(as_tuple=True)
    target = table[source, token_class]
    while True:
        through = (distance[target] + 1).clamp(max=NEVER)
        shorter = distance.scatter_reduce(0, source, through, "amin")
        if torch.equal(shorter, distance):
            return distance
        distance = shorter
