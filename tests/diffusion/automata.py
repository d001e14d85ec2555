"""Small automata over letters, and random patterns."""

import random

import torch

from unmask.diffusion.automaton import Automaton, build_automaton
from unmask.engine.structured import byte_automaton


def automaton_of(pattern: str, letters: str, num_tokens: int | None = None) -> Automaton:
    """Return the automaton of a pattern over the stop token 0, the mask 1, and one token per letter."""
    rows, finals = byte_automaton("regex", pattern)
    is_final = torch.zeros(len(rows), dtype=torch.bool)
    is_final[torch.tensor(finals)] = True
    texts = [b"", b"", *(letter.encode() for letter in letters)]
    ids = torch.arange(num_tokens or len(texts))
    drawable = (ids != 1) & (ids < len(texts))
    return build_automaton(torch.tensor(rows), is_final, texts, (0,), drawable)


def random_pattern(rng: random.Random, letters: str, depth: int = 3) -> str:
    """Return a random regular expression that Rust and Python read alike."""
    kinds = (
        ["letter", "class"] if depth == 0 else ["letter", "both", "either", "many", "some", "maybe"]
    )
    kind = rng.choice(kinds)
    if kind == "letter":
        return rng.choice(letters)
    if kind == "class":
        return f"[{''.join(rng.sample(letters, rng.randrange(1, len(letters) + 1)))}]"
    one = random_pattern(rng, letters, depth - 1)
    if kind == "both":
        return one + random_pattern(rng, letters, depth - 1)
    if kind == "either":
        return f"(?:{one}|{random_pattern(rng, letters, depth - 1)})"
    return f"(?:{one}){ {'many': '*', 'some': f'{{1,{rng.randrange(1, 4)}}}', 'maybe': '?'}[kind] }"
