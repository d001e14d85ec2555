"""Records of preference pairs, and the pairs they are read as."""

import json
from pathlib import Path
from typing import Any

from tests.data.toy_tokenizers import END, PLAIN, toy_tokenizer
from unmask.checkpoints.tokenizer import encode, token_pieces
from unmask.configs.pairs import PairsConfig
from unmask.data.demonstrations import Vocabulary, vocabulary_of
from unmask.data.pairs import pairs_of_source

ASKED = [{"role": "user", "content": "1+1"}]
GOOD = {"prompt": "1+1", "chosen": "2", "rejected": "3"}
# Prompt and answers of `GOOD`.
EXPECTED = ("[user]1+1<|end|>\n[assistant]", "2<|end|>", "3<|end|>")


def answer(text: str) -> dict[str, str]:
    """Return a turn of the assistant."""
    return {"role": "assistant", "content": text}


def vocabulary(place: Path) -> Vocabulary:
    """Return that of a model that stops at the template's end of turn."""
    tokenizer = toy_tokenizer(place, PLAIN)
    return vocabulary_of(tokenizer, encode(END, tokenizer))


def read_pairs(place: Path, *records: Any, **config: Any) -> list[tuple[str, ...]]:
    """Return prompt and both answers of each pair as texts with their special tokens."""
    path = place / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    words = vocabulary(place)
    found = pairs_of_source(PairsConfig(path=path, **config), "data", words)
    return [
        tuple(
            "".join(token_pieces(ids, words.tokenizer))
            for ids in (p.chosen.prompt_ids, p.chosen.response_ids, p.rejected.response_ids)
        )
        for p in found
    ]
