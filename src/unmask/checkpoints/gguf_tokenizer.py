"""The tokenizer of a GGUF file, written as `tokenizer.json` and `tokenizer_config.json`.

A GGUF file holds the vocabulary, the merges, the kind of every token and the name of the pattern that
splits a text before the merges, all under llama.cpp's keys. That is a byte-level BPE tokenizer of
`tokenizers`. The splits below are those of the published tokenizers; a name that is not listed is refused,
because a wrong split gives other tokens without an error. Conversions in `transformers` 5.23 split
SmolLM's digits as GPT-2 does, leave out Qwen's NFC and Llama 3's `ignore_merges`, and are not used.

Tokens of kind *unused* fill the embedding's spare rows; they are left out, so that their ids are free.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unmask.models.families.json_keys import shortened, write_json

# A split of words, one of digits, and white space, which differ in how many digits a word may have.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
SPECIAL = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
KEY = "tokenizer.ggml."


class Split(NamedTuple):
    """How a text is split before the merges.

    Attributes:
        pattern: pattern of the pieces; GPT-2's when not given.
        one_digit: whether every digit is a piece of its own before that.
        is_nfc: whether the text is normalised to NFC first.
        whole_words: whether a piece in the vocabulary is one token, whatever the merges give.
    """

    pattern: str | None = None
    one_digit: bool = False
    is_nfc: bool = False
    whole_words: bool = False


SPLITS = {
    "gpt-2": Split(),
    "smollm": Split(one_digit=True),
    "qwen2": Split(WORDS.format(digits=""), is_nfc=True),
    "llama-bpe": Split(WORDS.format(digits="{1,3}"), whole_words=True),
}


def write_gguf_tokenizer(metadata: Mapping[str, Any], directory: Path) -> None:
    """Write the tokenizer of a GGUF file's metadata into a directory.

    Raises:
        ValueError: naming the key whose value is missing or not supported.
    """
    backend = _backend(metadata)
    backend.save(str(directory / "tokenizer.json"))
    tokens: list[str] = metadata[f"{KEY}tokens"]
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    for stored, name in SPECIAL.items():
        if (token := _special(metadata, stored, tokens)) is not None:
            settings[f"{name}_token"] = token
    if (template := metadata.get("tokenizer.chat_template")) is not None:
        settings["chat_template"] = template
    write_json(directory / "tokenizer_config.json", settings)


def _backend(metadata: Mapping[str, Any]) -> Any:
    """Return the tokenizer as one of the `tokenizers` package."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel
    from tokenizers.models import BPE
    from tokenizers.normalizers import NFC

    split = SPLITS[_required(metadata, "pre", SPLITS)]
    _required(metadata, "model", ("gpt2",))
    tokens, kinds = (_listed(metadata, key) for key in ("tokens", "token_type"))
    if len(set(tokens)) < len(tokens) or len(kinds) != len(tokens):
        raise ValueError(f"{KEY}tokens and {KEY}token_type: must be one kind for each, none twice")
    merges = [_pair(merge) for merge in _listed(metadata, "merges")]
    used = {t: i for i, (t, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind != UNUSED}
    backend = Tokenizer(BPE(used, merges, ignore_merges=split.whole_words))
    if split.is_nfc:
        backend.normalizer = NFC()
    backend.pre_tokenizer = _pre_tokenizer(split)
    backend.decoder = ByteLevel()
    for kind, is_special in ((CONTROL, True), (USER_DEFINED, False)):
        added = [token for token, found in zip(tokens, kinds, strict=True) if found == kind]
        backend.add_tokens([AddedToken(t, normalized=False, special=is_special) for t in added])
    # llama.cpp adds it to a text of Llama 3 even where a file does not state it.
    if metadata.get(f"{KEY}add_bos_token", split.whole_words):
        backend.post_processor = _with_bos(_special(metadata, "bos", tokens), tokens)
    return backend


def _pre_tokenizer(split: Split) -> Any:
    from tokenizers import Regex
    from tokenizers import pre_tokenizers as parts

    own = [] if split.pattern is None else [parts.Split(Regex(split.pattern), "isolated")]
    digits = [parts.Digits(individual_digits=True)] if split.one_digit else []
    to_bytes = parts.ByteLevel(add_prefix_space=False, use_regex=split.pattern is None)
    return parts.Sequence([*digits, *own, to_bytes])


def _with_bos(bos: str | None, tokens: list[str]) -> Any:
    """Return the step that puts the begin-of-text token before a text, where special tokens are asked for."""
    from tokenizers.processors import TemplateProcessing

    if bos is None:
        raise ValueError(f"{KEY}bos_token_id is missing, and {KEY}add_bos_token asks for it")
    return TemplateProcessing(
        single=[bos, "$A"], pair=[bos, "$A", bos, "$B:1"], special_tokens=[(bos, tokens.index(bos))]
    )


def _special(metadata: Mapping[str, Any], role: str, tokens: list[str]) -> str | None:
    """Return the special token of a role, if the file names one."""
    token_id = metadata.get(f"{KEY}{role}_token_id")
    if token_id is None:
        return None
    if token_id not in range(len(tokens)):
        raise ValueError(
            f"{KEY}{role}_token_id = {shortened(token_id)}: must be an id below {len(tokens)}"
        )
    return tokens[token_id]


def _pair(merge: str) -> tuple[str, str]:
    first, _, second = merge.partition(" ")
    if not first or not second or " " in second:
        raise ValueError(f"{KEY}merges: {shortened(merge)}: must be two tokens and a space")
    return first, second


def _required(metadata: Mapping[str, Any], key: str, allowed: Any) -> str:
    value = metadata.get(f"{KEY}{key}")
    if value is None or value not in allowed:
        raise ValueError(f"{KEY}{key} = {shortened(value)}: must be one of {', '.join(allowed)}")
    return value


def _listed(metadata: Mapping[str, Any], key: str) -> list[Any]:
    if not isinstance(value := metadata.get(f"{KEY}{key}"), list):
        raise ValueError(f"{KEY}{key} is missing or no list")
    return value
