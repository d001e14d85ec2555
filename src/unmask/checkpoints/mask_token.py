"""Adds a mask token to a tokenizer that has none.

Tokenizer files are edited, not loaded and saved again: other tokens, the class and the chat template
stay as their authors wrote them. The result is read back and must give the requested id.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.checkpoints.tokenizer import encode, has_tokenizer, load_tokenizer, num_tokens
from unmask.models.families.json_keys import read_json, read_optional, write_json


@dataclass(frozen=True, slots=True)
class MaskToken:
    """The token that hides another.

    Attributes:
        id: its id.
        text: how the tokenizer spells it; `None` where there is no tokenizer.
        num_known: rows of the embedding that belong to tokens; it may be one of them.
        is_added: whether the tokenizer lacked it.
    """

    id: int
    text: str | None
    num_known: int
    is_added: bool


def choose_mask_token(
    directory: Path, num_rows: int, given: int | None, default_text: str
) -> MaskToken:
    """Choose the id: the caller's, else the tokenizer's own mask token, else the first one not in use.

    Args:
        directory: with tokenizer files, or without.
        num_rows: rows of the embedding.
        given: the requested id: a token's, or the first one not in use.
        default_text: spelling of a token that is added.

    Raises:
        ValueError: if there is neither a tokenizer nor a requested id, the id leaves a gap, or the
            tokenizer has more ids than the embedding has rows.
    """
    if not has_tokenizer(directory):
        if given is None:
            raise ValueError(
                f"{directory} has no tokenizer (tokenizer.json, or vocab.json and merges.txt) "
                "that shows which ids are in use: give the mask token's, --mask-id ID (mask_id=...)"
            )
        _require_in_reach(given, num_rows, f"the {num_rows} rows of the embedding")
        return MaskToken(given, None, num_rows, is_added=False)
    tokenizer = load_tokenizer(directory)
    vocabulary = tokenizer.get_vocab()
    known = num_tokens(tokenizer)
    if known > num_rows:
        raise ValueError(
            f"{directory}: the tokenizer has {known} ids and the embedding {num_rows} rows "
            "(vocab_size): one of the two belongs to another model"
        )
    own = tokenizer.mask_token_id
    wanted = vocabulary.get(default_text, known) if own is None else own
    chosen = wanted if given is None else given
    _require_in_reach(chosen, known, f"the {known} ids of the tokenizer")
    texts = {index: text for text, index in vocabulary.items()}
    if chosen < known and chosen not in texts:
        raise ValueError(f"mask_id = {chosen}: the tokenizer has no such token; leave it out")
    text = texts.get(chosen, default_text)
    if chosen == known and default_text in vocabulary:
        raise ValueError(
            f"mask_id = {chosen}: the tokenizer spells id {vocabulary[default_text]} {default_text!r} "
            "already; take that id"
        )
    return MaskToken(chosen, text, known, is_added=chosen == known)


def _require_in_reach(mask_id: int, count: int, what: str) -> None:
    if not 0 <= mask_id <= count:
        raise ValueError(
            f"mask_id = {mask_id}: must be one of {what}, or the next one, {count}; any other "
            "leaves unused ids in between"
        )


def write_mask_token(directory: Path, mask: MaskToken) -> None:
    """Write a mask token into the tokenizer files of a directory.

    Raises:
        ValueError: if the tokenizer then gives it another id.
    """
    assert mask.text is not None
    settings = read_optional(directory / "tokenizer_config.json")
    settings["mask_token"] = mask.text
    if mask.is_added:
        _add(directory, mask.id, mask.text, settings)
    write_json(directory / "tokenizer_config.json", settings)
    special = directory / "special_tokens_map.json"
    if special.is_file():
        write_json(special, read_json(special) | {"mask_token": mask.text})
    tokenizer = load_tokenizer(directory)
    found = tokenizer.mask_token_id
    if found != mask.id or encode(mask.text, tokenizer) != [mask.id]:
        raise ValueError(
            f"the tokenizer gives {mask.text!r} the id {found} instead of {mask.id}: its ids have "
            f"gaps; give the mask token's id, --mask-id ID (mask_id=...)"
        )


def _add(directory: Path, mask_id: int, text: str, settings: dict[str, Any]) -> None:
    """Add the token to every file that lists added tokens; `settings` is the tokenizer's config."""
    entry = {
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    whole, added = directory / "tokenizer.json", directory / "added_tokens.json"
    if whole.is_file():
        content = read_json(whole)
        listed = content.get("added_tokens") or []
        write_json(whole, content | {"added_tokens": [*listed, {"id": mask_id, **entry}]})
    if added.is_file() or not whole.is_file():
        write_json(added, read_optional(added) | {text: mask_id})
    if "added_tokens_decoder" in settings or not whole.is_file():
        settings.setdefault("added_tokens_decoder", {})[str(mask_id)] = entry
