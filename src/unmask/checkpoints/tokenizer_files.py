"""The token ids of a tokenizer, read from its files without loading it.

A checkpoint's spec needs three numbers: how many ids the tokenizer decodes, and the ids of its mask and
end-of-text tokens. Loading it for them would import `transformers`: half a second and 20 MiB every time
a model is loaded.
"""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from unmask.models.families.json_keys import Keys, TokenId, read_json, read_optional

WrittenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class AddedToken(Keys):
    """A token that is stored as an object."""

    content: str


class ListedToken(AddedToken):
    """A token of the list in `tokenizer.json`."""

    id: TokenId


class ModelKeys(Keys):
    """The vocabulary of `tokenizer.json`: ids by token, or for unigram tokens and their scores."""

    vocab: (
        dict[str, TokenId] | list[Annotated[list[str | float], Field(min_length=2, max_length=2)]]
    )


class TokenizerKeys(Keys):
    """The keys of `tokenizer.json` that are used."""

    model: ModelKeys
    added_tokens: list[ListedToken] | None = None


class Template(Keys):
    """One of several chat templates."""

    name: str
    template: str


class SettingsKeys(Keys):
    """The keys of `tokenizer_config.json` and `special_tokens_map.json` that are used."""

    mask_token: str | AddedToken | None = None
    eos_token: str | AddedToken | None = None
    pad_token: str | AddedToken | None = None
    bos_token: str | AddedToken | None = None
    unk_token: str | AddedToken | None = None
    added_tokens_decoder: dict[WrittenId, AddedToken] | None = None
    chat_template: str | list[Template] | None = None
    model_max_length: float | None = None


class KnownIds(NamedTuple):
    """The ids of a tokenizer that a spec needs.

    Attributes:
        num_tokens: one more than the largest id it decodes; ids may have gaps.
        mask_token_id: id of its mask token; `None` if it has none.
        eos_token_id: id of its end-of-text token; `None` if it has none.
    """

    num_tokens: int
    mask_token_id: int | None
    eos_token_id: int | None


def read_known_ids(directory: Path) -> KnownIds:
    """Read the ids from `tokenizer.json`, else Qwen's `vocab.json`, and the files of special tokens.

    Raises:
        ValueError: naming the file that is not JSON, or its key that has a wrong value.
    """
    ids = _vocabulary(directory) | _added(directory)
    if not ids:
        raise ValueError(f"{directory}: the vocabulary of the tokenizer is empty")
    named = read_optional(directory / "special_tokens_map.json", SettingsKeys)
    named |= read_optional(directory / "tokenizer_config.json", SettingsKeys)
    return KnownIds(
        num_tokens=max(ids.values()) + 1,
        mask_token_id=ids.get(_text(named.get("mask_token"))),
        eos_token_id=ids.get(_text(named.get("eos_token"))),
    )


def _vocabulary(directory: Path) -> dict[str, int]:
    if not (directory / "tokenizer.json").is_file():
        return read_json(directory / "vocab.json", dict[str, TokenId])
    content = read_json(directory / "tokenizer.json", TokenizerKeys)
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # unigram: a list of tokens and their scores
        vocabulary = {token: index for index, (token, _) in enumerate(vocabulary)}
    added = content.get("added_tokens") or []
    return vocabulary | {token["content"]: token["id"] for token in added}


def _added(directory: Path) -> dict[str, int]:
    """Return the tokens that were added to the vocabulary."""
    settings = read_optional(directory / "tokenizer_config.json", SettingsKeys)
    decoder = settings.get("added_tokens_decoder") or {}
    listed = {token["content"]: int(index) for index, token in decoder.items()}
    return read_optional(directory / "added_tokens.json", dict[str, TokenId]) | listed


def _text(token: Any) -> Any:
    """Return a special token's text; files store a string, or an object with its content."""
    return token["content"] if isinstance(token, dict) else token
