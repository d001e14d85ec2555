"""Real tokenizers of every kind whose decoder joins tokens, and ids that make trouble in each."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from unmask.checkpoints.random_init import byte_tokenizer
from unmask.checkpoints.tokenizer import character_tokenizer, decode, encode, write_tokenizer

KINDS = ("characters", "bytes", "byte pairs", "words", "pieces")
TEXT = "ab a\u00e9\u00e9 \u4e00\u4e8c\u4e00 \N{GRINNING FACE}b a b, ba"

# Of each kind: ids to draw from, and what decodes them.
Decoders = dict[str, tuple[list[int], Callable[[Sequence[int]], str]]]


def _byte_pairs() -> Any:
    """Return a byte-level BPE; some of its tokens end inside a character."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    backend = Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = Decoder()
    trainer = BpeTrainer(vocab_size=272, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator([TEXT] * 3, trainer)
    return backend


def _words() -> Any:
    """Return a WordPiece model: `##` marks what goes on with a word."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import WordPiece as Decoder
    from tokenizers.models import WordPiece

    tokens = ["[UNK]", "a", "b", "##a", "##b", "##ab", ","]
    backend = Tokenizer(WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.decoder = Decoder(cleanup=False)
    return backend


def _pieces() -> Any:
    """Return a model whose tokens begin with their space; the first of a text loses it."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import Metaspace as Decoder
    from tokenizers.models import BPE

    tokens = ["\u2581", "\u2581a", "\u2581ab", "a", "b", "\u00e9", "\u2581\u4e00"]
    backend = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, []))
    backend.decoder = Decoder()
    return backend


def token_ids(ids_of: Sequence[int]) -> st.SearchStrategy[list[int]]:
    """Draw runs of the given ids, which are whole characters mostly."""
    ends = st.tuples(st.integers(0, len(ids_of) - 1), st.integers(1, 12))
    runs = ends.map(lambda at: list(ids_of[at[0] : at[0] + at[1]]))
    return st.lists(runs, max_size=12).map(lambda parts: [*chain.from_iterable(parts)])


def build_decoders(directory: Path) -> Decoders:
    """Build a tokenizer of each kind."""
    tokenizers = {
        "characters": character_tokenizer("ab ,\u00e9\u4e00", directory / "characters"),
        "bytes": byte_tokenizer(directory / "bytes"),
        "byte pairs": write_tokenizer(_byte_pairs(), directory / "byte pairs", has_mask=False),
        "words": write_tokenizer(_words(), directory / "words", has_mask=False),
        "pieces": write_tokenizer(_pieces(), directory / "pieces", has_mask=False),
    }
    ids = {kind: list(range(7)) for kind in KINDS} | {"characters": list(range(2, 8))}
    for kind in ("bytes", "byte pairs"):
        ids[kind] = encode(TEXT, tokenizers[kind])
    longest = range(256, 272)  # merges of the corpus
    ids["byte pairs"] += longest
    return {
        kind: (ids[kind], partial(decode, tokenizer=tokenizer))
        for kind, tokenizer in tokenizers.items()
    }
