"""Text to token ids and back, by the tokenizer files of a checkpoint.

`transformers` reads the files and renders the chat template; it is imported when a tokenizer is
loaded, because that takes half a second. Only files in the directory are read and nothing in them
is executed. Special tokens are never added to a text: a chat template writes its own, and models
without one are prompted with plain text.

A chat template is a third party's program: one that raises, or whose output lacks the content of a
message, is refused by name. Published templates trim contents, and drop the thoughts of earlier assistant
turns; neither counts as a loss.
"""

import json
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from os.path import commonprefix
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, cast

from unmask.checkpoints.tokenizer_files import read_known_ids
from unmask.images import MARKER
from unmask.models.families.json_keys import shortened
from unmask.types import Message

EOS, MASK = "<eos>", "<mask>"
# A decoder's output for bytes that are not a whole character.
REPLACEMENT = "\ufffd"
TEMPLATE_FILE, SETTINGS = "chat_template.jinja", "tokenizer_config.json"
# A thought of a response; the tag that opens it may stand in the prompt before the response.
THOUGHT = re.compile(r"<think>.*?</think>|\A(?:(?!<think>).)*?</think>", re.DOTALL)
TAGS = re.compile("</?think>")
# The tag with which a template marks what the assistant writes.
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Content that no template contains by itself.
PROBE = Message("user", "How much is 58121 + 30719?")


class Tokenizer(Protocol):
    """The part of a `transformers` tokenizer that is used."""

    chat_template: str | None
    special_tokens_map: dict[str, Any]
    eos_token_id: int | None
    pad_token_id: int | None
    mask_token_id: int | None
    # By id; `content` is the text of an added token, `special` whether `decode` omits it.
    added_tokens_decoder: dict[int, Any]
    name_or_path: str

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        """Return an object whose `input_ids` is a list of ids."""
        ...

    def decode(
        self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str:
        """Return the text of ids."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Return every token and its id, added ones included."""
        ...

    def apply_chat_template(self, turns: list[dict[str, str]], **options: Any) -> str:
        """Return a conversation as text."""
        ...


def has_tokenizer(directory: str | Path) -> bool:
    """Return whether a directory holds tokenizer files that `load_tokenizer` reads."""
    directory = Path(directory)
    qwen = (directory / "vocab.json", directory / "merges.txt")
    return (directory / "tokenizer.json").is_file() or all(file.is_file() for file in qwen)


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """Load a directory's tokenizer: `tokenizer.json`, else Qwen's `vocab.json` and `merges.txt`.

    Raises:
        ValueError: if the directory holds neither, or naming the file that cannot be read.
    """
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    directory = Path(directory)
    if not has_tokenizer(directory):
        raise ValueError(
            f"{directory} has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt"
        )
    # SDAR checkpoints are published with Qwen's two files alone.
    has_json = (directory / "tokenizer.json").is_file()
    reader = PreTrainedTokenizerFast if has_json else Qwen2Tokenizer
    read_known_ids(directory)  # raises errors that name the key
    try:
        with _without_marks(directory) as place:
            tokenizer = reader.from_pretrained(
                place, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # of the libraries that read it: JSON, keys, values, anything
        place = directory / _broken_file(directory)
        raise ValueError(f"{place}: cannot be read: {_first_line(error)}") from error
    tokenizer.name_or_path = str(directory)
    return cast(Tokenizer, tokenizer)


@contextmanager
def _without_marks(directory: Path) -> Generator[Path, None, None]:
    """Yield a directory, or a copy of its text files if one of them begins with a byte order mark."""
    texts = [file for file in directory.iterdir() if file.suffix in (".json", ".jinja", ".txt")]
    contents = {file.name: file.read_bytes() for file in texts if file.is_file()}
    if not any(content.startswith(BOM_UTF8) for content in contents.values()):
        yield directory
        return
    with TemporaryDirectory() as place:
        for name, content in contents.items():
            (Path(place) / name).write_bytes(content.removeprefix(BOM_UTF8))
        yield Path(place)


def _broken_file(directory: Path) -> str:
    """Return the name of the file on which reading a tokenizer fails."""
    from tokenizers import Tokenizer as Backend

    whole = directory / "tokenizer.json"
    if not whole.is_file():
        return "vocab.json, merges.txt or tokenizer_config.json"
    try:
        Backend.from_str(whole.read_text(encoding="utf-8-sig"))
    except Exception:  # the tokenizers library raises nothing narrower
        return whole.name
    return SETTINGS


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}"


def num_tokens(tokenizer: Tokenizer) -> int:
    """Return one more than the largest id a tokenizer decodes; `len` would miss gaps between ids."""
    return max(tokenizer.get_vocab().values()) + 1


def encode(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the ids of a text, special tokens written out in it included and none added.

    Raises:
        ValueError: if the tokenizer has no token for a character, naming it.
    """
    try:
        return tokenizer(text, add_special_tokens=False).input_ids
    except Exception as error:  # the tokenizers library raises nothing narrower
        vocabulary = tokenizer.get_vocab()
        unknown = "".join(sorted(set(text) - set(vocabulary)))
        reason = f"no token for {unknown!r}" if unknown else _first_line(error)
        raise ValueError(f"cannot encode {text[:80]!r}: {reason}") from error


def decode(token_ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Return the text of token ids as it was written, special tokens left out."""
    return tokenizer.decode(
        list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def special_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Return the tokens that `decode` omits: text by id."""
    added = tokenizer.added_tokens_decoder.items()
    return {index: token.content for index, token in added if token.special}


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes that each token id adds to a text, by id; none for special tokens and gaps.

    Raises:
        ValueError: if the text of a token depends on the tokens before it.
    """
    backend: Any = tokenizer
    kind = (json.loads(backend.backend_tokenizer.to_str())["decoder"] or {}).get("type")
    if kind not in ("ByteLevel", "Fuse"):
        raise ValueError(
            f"{tokenizer.name_or_path}: structured output needs the texts of single tokens, which a "
            f"decoder of type {kind} does not have; ByteLevel does"
        )
    letters = _byte_letters()
    special = special_tokens(tokenizer)
    added = tokenizer.added_tokens_decoder
    texts = [b""] * num_tokens(tokenizer)
    for token, index in tokenizer.get_vocab().items():
        if index in special:
            continue
        is_plain = kind == "Fuse" or index in added
        texts[index] = token.encode() if is_plain else bytes(letters[letter] for letter in token)
    return texts


def _byte_letters() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for (GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]  # printable, as themselves
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


def token_pieces(
    token_ids: Sequence[int], tokenizer: Tokenizer, has_special: bool = True
) -> list[str]:
    """Return the text that each token adds.

    A character of several tokens is the text of the last one of them; the others are empty. The vectors of images,
    which have negative ids in a prompt, add a marker; it is the text of the first of adjacent vectors.

    Args:
        token_ids: of a text or a prompt.
        tokenizer: of the ids.
        has_special: whether special tokens have a text, too.
    """
    pieces: list[str] = []
    waiting: list[int] = []
    for before, token_id in zip((0, *token_ids), token_ids, strict=False):
        if token_id < 0:
            pieces.append(MARKER if before >= 0 else "")
            continue
        waiting.append(token_id)
        text = tokenizer.decode(
            waiting, skip_special_tokens=not has_special, clean_up_tokenization_spaces=False
        )
        # The longest character has four bytes; bytes that are broken after that stay broken.
        is_open = text.endswith(REPLACEMENT) and len(waiting) < 4
        pieces.append("" if is_open else text)
        waiting = waiting if is_open else []
    if waiting:
        pieces[-1] = REPLACEMENT
    return pieces


def text_ends(token_ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Return how many characters of `decode(token_ids)` are complete after each token.

    A prefix of the tokens thus maps to a prefix of the text that is graded, without a character that it
    holds in part.
    """
    text = decode(token_ids, tokenizer)
    pieces = token_pieces(token_ids, tokenizer, has_special=False)
    if "".join(pieces) == text:
        return list(accumulate(map(len, pieces)))
    # The decoder's text of a token depends on earlier ones, or the bytes are not valid text.
    prefixes = (decode(token_ids[:count], tokenizer) for count in range(1, len(token_ids) + 1))
    agreed = [len(commonprefix((prefix, text))) for prefix in prefixes]  # noqa: RUF071 - no paths
    return list(accumulate([*agreed[:-1], len(text)], max))


def render_text(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    add_generation_prompt: bool = True,
    **options: Any,
) -> str:
    """Return a conversation as text: by the chat template, else its contents one after the other.

    Args:
        messages: the conversation.
        tokenizer: its chat template is used.
        add_generation_prompt: whether the text ends where the assistant's turn begins.
        options: options of the template, such as SDAR's `enable_thinking`.

    Raises:
        ValueError: naming the file of the template, if it raises or loses the content of a message.
    """
    if tokenizer.chat_template is None:
        return "".join(message.content for message in messages)
    check_template(tokenizer)
    return _apply_template(messages, tokenizer, add_generation_prompt, **options)


@lru_cache(maxsize=1)
def check_template(tokenizer: Tokenizer) -> None:
    """Refuse a chat template that raises on a plain question or drops it.

    A short question may occur in the template itself by chance; `PROBE` does not.

    Raises:
        ValueError: naming the file of the template.
    """
    _apply_template([PROBE], tokenizer)


def _apply_template(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    add_generation_prompt: bool = True,
    **options: Any,
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            _turns(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **options,
        )
    except Exception as error:  # a template may raise anything
        raise ValueError(
            f"{_template_file(tokenizer)}: chat_template fails: {_first_line(error)}"
        ) from error
    wanted: Counter[str] = Counter()
    for number, message in enumerate(messages, start=1):
        wanted.update(_pieces(message, is_last=number == len(messages)))
    for piece, count in wanted.items():
        if text.count(piece) < count:
            raise ValueError(
                f"{_template_file(tokenizer)}: chat_template loses the content of a message: "
                f"{shortened(piece)} is not in the rendered text"
            )
    return text


def _pieces(message: Message, is_last: bool) -> list[str]:
    """Return the parts of a message that a rendered conversation must contain."""
    pieces = [message.content]
    if message.role == "assistant":  # a template may reformat, or drop, its thoughts
        pieces = TAGS.split(message.content) if is_last else THOUGHT.split(message.content)
    return [piece.strip() for piece in pieces]


def render_turn(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[str, str, str]:
    """Return a conversation as three texts: up to the assistant's last turn, that turn, and what follows it.

    The turn is the part that the template marks with `{% generation %}`. Without that tag it is what the
    rendering adds to the prompt of the turn, as `render_text` renders it for the sampler; the template's
    end of turn is then part of it. Without a template it is the last content.

    Args:
        messages: the conversation; the assistant's turn is the last one.
        tokenizer: its chat template is used.

    Raises:
        ValueError: as `render_text`; or the rendering does not begin with the prompt of the turn, so no
            response to that prompt gives it.
    """
    *before, last = messages
    if tokenizer.chat_template is None:
        return "".join(message.content for message in before), last.content, ""
    whole = render_text(messages, tokenizer, add_generation_prompt=False)
    if GENERATION.search(tokenizer.chat_template):
        return _marked(messages, tokenizer)
    prompt = render_text(before, tokenizer)
    if not whole.startswith(prompt):
        opened = prompt[len(commonprefix((prompt, whole))) :]  # noqa: RUF071 - no paths
        raise ValueError(
            f"{_template_file(tokenizer)}: chat_template opens the assistant's turn with "
            f"{shortened(opened)}, which its rendering of the response does not begin with: begin the "
            "response with that, or render the texts yourself"
        )
    return prompt, whole[len(prompt) :], ""


def _marked(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[str, str, str]:
    """Return the text before, in and after the last `{% generation %}` of a conversation."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any = render_jinja_template(
        [_turns(messages)],  # pyright: ignore[reportArgumentType]
        chat_template=tokenizer.chat_template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    (text,), (spans,) = rendered
    if not spans:
        raise ValueError(
            f"{_template_file(tokenizer)}: chat_template marks no text of the assistant's last turn "
            "with {% generation %}"
        )
    start, end = spans[-1]
    return text[:start], text[start:end], text[end:]


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _template_file(tokenizer: Tokenizer) -> Path:
    directory = Path(tokenizer.name_or_path)
    return directory / (TEMPLATE_FILE if (directory / TEMPLATE_FILE).is_file() else SETTINGS)


def character_tokenizer(alphabet: str, directory: str | Path) -> Tokenizer:
    """Write a tokenizer with one token per character, and return it.

    Ids: `<eos>` (which also pads) 0, `<mask>` 1, then the alphabet in order. The files are
    `tokenizer.json` and `tokenizer_config.json`.

    Raises:
        ValueError: if a character comes twice.
    """
    from tokenizers import Regex
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    vocabulary = {token: index for index, token in enumerate((EOS, MASK, *alphabet))}
    if len(vocabulary) < len(alphabet) + 2:
        raise ValueError(f"alphabet = {alphabet!r}: a character comes twice")
    backend = Backend(WordLevel(vocabulary))
    backend.pre_tokenizer = Split(Regex("(?m)."), "isolated")  # Oniguruma: m lets . match newlines
    backend.decoder = Fuse()
    return write_tokenizer(backend, directory)


def write_tokenizer(backend: Any, directory: str | Path, has_mask: bool = True) -> Tokenizer:
    """Write a `tokenizers` tokenizer that holds `<eos>`, and `<mask>` if it has one, and return it loaded."""
    mask = {"mask_token": MASK} if has_mask else {}
    backend.add_special_tokens([EOS, *mask.values()])
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "pad_token": EOS,
        **mask,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return load_tokenizer(directory)
