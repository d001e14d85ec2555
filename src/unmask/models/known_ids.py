"""Which ids a tokenizer knows, read off its files without loading it.

A checkpoint's spec needs three numbers of the tokenizer: how many ids it decodes, and the ids of its
mask and end-of-text tokens. Loading it for them would import `transformers`: half a second and 20 MiB,
every time a model is loaded.
"""

from pathlib import Path
from typing import Any, NamedTuple

from unmask.models.json_object import read_json


class KnownIds(NamedTuple):
    """What a spec needs of a tokenizer.

    Attributes:
        num_tokens: one more than the largest id it decodes; ids may have gaps.
        mask_token_id: of its mask token; `None` if it has none.
        eos_token_id: of its end-of-text token; likewise.
    """

    num_tokens: int
    mask_token_id: int | None
    eos_token_id: int | None


def read_known_ids(directory: Path) -> KnownIds:
    """Read the files of a tokenizer: `tokenizer.json`, else Qwen's `vocab.json`, and what goes with them.

    Raises:
        ValueError: naming the file that is not JSON.
    """
    ids = _vocabulary(directory) | _added(directory)
    named = _optional(directory / "special_tokens_map.json")
    named |= _optional(directory / "tokenizer_config.json")
    return KnownIds(
        num_tokens=max(ids.values()) + 1,
        mask_token_id=ids.get(_text(named.get("mask_token"))),
        eos_token_id=ids.get(_text(named.get("eos_token"))),
    )


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _vocabulary(directory: Path) -> dict[str, int]:
    if not (directory / "tokenizer.json").is_file():
        return read_json(directory / "vocab.json")
    content = read_json(directory / "tokenizer.json")
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # unigram: a list of tokens and their scores
        vocabulary = {token: index for index, (token, _) in enumerate(vocabulary)}
    return vocabulary | {token["content"]: token["id"] for token in content["added_tokens"]}


def _added(directory: Path) -> dict[str, int]:
    """Return the tokens that were added beside the vocabulary."""
    decoder = _optional(directory / "tokenizer_config.json").get("added_tokens_decoder", {})
    listed = {token["content"]: int(index) for index, token in decoder.items()}
    return _optional(directory / "added_tokens.json") | listed


def _text(token: Any) -> Any:
    """Return a special token's text; files spell it as a string, or as an object with its content."""
    return token["content"] if isinstance(token, dict) else token
