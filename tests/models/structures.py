"""Structures of packs, and their attention mask by a rule for single pairs."""

import torch
from hypothesis import strategies as st
from torch import Tensor

Token = tuple[int, int, int, int]  # document, block, copy, prefix


@st.composite
def packs(draw: st.DrawFn) -> list[Token]:
    """Draw the structure of a pack: documents of clean blocks and noisy copies, some on a shared prefix."""
    pack: list[Token] = []
    prefixes: dict[int, int] = {}  # document without a prefix of its own: its clean blocks
    for document in range(draw(st.integers(1, 4))):
        prefix = draw(st.sampled_from([-1, *prefixes]))
        first = prefixes.get(prefix, 0)
        num_clean = draw(st.integers(0 if prefix >= 0 else 1, 3))
        noisy = draw(st.lists(st.integers(first, first + num_clean), max_size=3))
        copies = [(first + block, 0) for block in range(num_clean)]
        copies += [(block, copy + 1) for copy, block in enumerate(noisy)]
        for block, copy in draw(st.permutations(copies)) or [(first, 0)]:
            pack += [(document, block, copy, prefix)] * draw(st.integers(1, 3))
        if prefix < 0:
            prefixes[document] = num_clean
    return pack


def may_see(query: Token, key: Token) -> bool:
    """Return, for one pair of tokens, the rule that `sees` computes in tensors."""
    document, block, copy, prefix = query
    key_document, key_block, key_copy, _ = key
    if key_document == document and key_block == block:
        return key_copy == copy
    return key_copy == 0 and key_block < block and key_document in (document, prefix)


def allowed_pairs(pack: list[Token]) -> Tensor:
    """Return the mask `(T, T)` of a pack."""
    return torch.tensor([[may_see(query, key) for key in pack] for query in pack])
