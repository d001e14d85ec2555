"""Chat templates as published, round trips of characters, no added tokens."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.engine.decoders import KINDS, build_decoders
from tests.models.toy import GOLDEN
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.tokenizer import (
    Tokenizer,
    character_tokenizer,
    decode,
    encode,
    load_tokenizer,
    num_tokens,
    render_text,
    special_tokens,
    text_ends,
    token_bytes,
    token_pieces,
)
from unmask.models.families import families
from unmask.types import Message

CHAT = {
    file.stem: json.loads(file.read_text()) for file in sorted((GOLDEN / "chat").glob("*.json"))
}
ALPHABET = "0123456789+-*/()=. \n<|>_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?é漢🙂"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return character_tokenizer(ALPHABET, tmp_path_factory.mktemp("tokenizer"))


def name_special_tokens(directory: Path, tokens: dict[str, dict[str, Any] | None]) -> None:
    """Write the special tokens of a template into the settings of a tokenizer."""
    file = directory / "tokenizer_config.json"
    stated = {f"{role}_token": tokens[role] for role in ("bos", "eos", "pad") if tokens.get(role)}
    texts = {key: token["text"] for key, token in stated.items() if token}
    file.write_text(json.dumps(json.loads(file.read_text()) | texts))


def test_every_family_has_a_conversation() -> None:
    assert CHAT.keys() | {"sdar_moe"} == {family.name for family in families()}  # it has SDAR's
    for chat in CHAT.values():
        assert any(entry.get("evidence") != "recalled" for entry in chat["rendered"])


@pytest.mark.parametrize(
    ("family", "entry"),
    [
        pytest.param(f, e, id=f"{f}-{e['name']}")
        for f, chat in CHAT.items()
        for e in chat["rendered"]
        if e.get("evidence") != "recalled"
    ],
)
def test_published_conversations(family: str, entry: dict[str, Any], tmp_path: Path) -> None:
    """Through the template file an export would copy; recalled texts were never published."""
    character_tokenizer(ALPHABET, tmp_path)
    (tmp_path / "chat_template.jinja").write_text(CHAT[family]["chat_template"])
    name_special_tokens(tmp_path, CHAT[family]["special_tokens"])
    text = render_text(
        [Message(**message) for message in entry["messages"]],
        load_tokenizer(tmp_path),
        entry["add_generation_prompt"],
        **entry.get("template_kwargs", {}),
    )
    assert text == entry["text"]


def test_a_rendered_prompt_ends_where_the_assistant_begins(tmp_path: Path) -> None:
    character_tokenizer(ALPHABET, tmp_path)
    (tmp_path / "chat_template.jinja").write_text(CHAT["sdar"]["chat_template"])
    tokenizer = load_tokenizer(tmp_path)
    ids = list(prompt_tokens([Message("user", "1 + 2")], tokenizer).token_ids)
    assert decode(ids, tokenizer) == ("<|im_start|>user\n1 + 2<|im_end|>\n<|im_start|>assistant\n")


def test_without_a_template_the_contents_are_the_text(tokenizer: Tokenizer) -> None:
    messages = [Message("system", "ab "), Message("user", "1+2=")]
    assert render_text(messages, tokenizer) == "ab 1+2="
    assert list(prompt_tokens(messages, tokenizer).token_ids) == encode("ab 1+2=", tokenizer)


def test_every_character_is_restored(tokenizer: Tokenizer) -> None:
    for text in (ALPHABET, ALPHABET[::-1], "  a  b \n\n ", " .", "a .", "1 ?", ""):
        ids = encode(text, tokenizer)
        assert len(ids) == len(text)
        assert decode(ids, tokenizer) == text


def test_special_tokens_are_read_and_left_out(tokenizer: Tokenizer) -> None:
    assert (tokenizer.eos_token_id, tokenizer.mask_token_id) == (0, 1)
    assert encode("1<mask><eos>", tokenizer) == [3, 1, 0]
    assert decode([3, 1, 0], tokenizer) == "1"
    assert num_tokens(tokenizer) == len(ALPHABET) + 2


def test_an_unknown_character_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="no token for '#ß'"):
        encode("1 ß+ #", tokenizer)


def test_an_alphabet_holds_a_character_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="comes twice"):
        character_tokenizer("010", tmp_path)


def test_a_directory_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no tokenizer"):
        load_tokenizer(tmp_path)


def test_files_as_sdar_ships_them(tmp_path: Path) -> None:
    """`vocab.json` and `merges.txt`, and a mask token that two files spell differently."""
    names = [*"abcdefgh", "ab", "Ġ"]
    (tmp_path / "vocab.json").write_text(json.dumps({n: i for i, n in enumerate(names)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    added = {"content": "<|endoftext|>", "special": True}, {"content": "<|MASK|>", "special": False}
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_sdar.Absent", None]},
        "added_tokens_decoder": {str(10 + i): token for i, token in enumerate(added)},
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "mask_token": "<|MASK|>",
        "bos_token": None,
        "unk_token": None,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text('{"mask_token": "<MASK>"}')
    (tmp_path / "added_tokens.json").write_text('{"<|endoftext|>": 10, "<MASK>": 11}')
    tokenizer = load_tokenizer(tmp_path)
    assert encode("ab cab<|endoftext|>", tokenizer) == [8, 9, 2, 8, 10]
    assert (tokenizer.eos_token_id, tokenizer.mask_token_id, num_tokens(tokenizer)) == (10, 11, 12)
    assert decode([8, 9, 2, 10], tokenizer) == "ab c"


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token per byte: characters of several bytes are spread."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(ByteLevel.alphabet())
    backend = Backend(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = Decoder()
    made: Any = PreTrainedTokenizerFast(tokenizer_object=backend)
    return made


def test_characters_stand_whole_on_their_last_token() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("aé€😀b", add_special_tokens=False).input_ids
    assert token_pieces(ids, tokenizer) == ["a", "", "é", "", "", "€", "", "", "", "😀", "b"]
    assert token_pieces(ids[:2], tokenizer) == ["a", "\ufffd"]
    assert token_pieces([], tokenizer) == []
    broken = token_pieces([ids[1]] * 5 + [ids[0]], tokenizer)
    assert len(broken) == 6
    assert "".join(broken).endswith("a")


def test_special_tokens_are_pieces_too(tmp_path: Path) -> None:
    tokenizer = character_tokenizer("0123456789", tmp_path)
    assert token_pieces([3, 1, 0], tokenizer) == ["1", "<mask>", "<eos>"]


def test_the_vectors_of_an_image_are_one_marker(tmp_path: Path) -> None:
    tokenizer = character_tokenizer("0123456789", tmp_path)
    assert token_pieces([-1, -2, 3, -3, 4], tokenizer) == ["<image>", "", "1", "<image>", "2"]


@pytest.mark.parametrize("text", ["", "a", "aé€😀b\r\n", "漢字", "e\u0301"])
def test_a_prefix_of_tokens_is_a_prefix_of_the_text(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = encode(text, tokenizer)
    ends = text_ends(ids, tokenizer)
    bytes_of = [len(text[:end].encode()) for end in ends]
    whole = {len(text[:count].encode()) for count in range(len(text) + 1)}
    assert bytes_of == [max(n for n in whole if n <= count) for count in range(1, len(ids) + 1)]


def test_special_tokens_write_nothing(tmp_path: Path) -> None:
    tokenizer = character_tokenizer("0123456789", tmp_path)
    assert text_ends([0, 3, 1, 4, 0], tokenizer) == [0, 1, 1, 2, 2]


def test_invalid_bytes_end_where_the_text_ends() -> None:
    tokenizer = byte_tokenizer()
    first, *others = encode("é😀ab", tokenizer)
    for ids in ([first], [first, first, *others], [*others[:3], first], others[1:] + [first] * 5):
        text, ends = decode(ids, tokenizer), text_ends(ids, tokenizer)
        assert ends == sorted(ends)
        assert (len(ends), ends[-1]) == (len(ids), len(text))
        for count, end in enumerate(ends[:-1], start=1):
            assert decode(ids[:count], tokenizer).startswith(text[:end])


def test_a_decoder_may_drop_the_first_space() -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import Metaspace
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    backend = Backend(WordLevel({"▁the": 0, "▁cat": 1, "s": 2}))
    backend.decoder = Metaspace()
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert decode([0, 1, 2, 0], tokenizer) == "the cats the"
    assert text_ends([0, 1, 2, 0], tokenizer) == [3, 7, 8, 12]


def templated(directory: Path, template: Any) -> Tokenizer:
    """Write a tokenizer of characters whose settings hold a chat template, and load it."""
    character_tokenizer(ALPHABET, directory)
    name_special_tokens(directory, {})
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    return load_tokenizer(directory)


EACH = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.content }", "chat_template fails: TemplateSyntaxError"),
        ("{{ raise_exception('no such role') }}", "chat_template fails: TemplateError: no such"),
        ("{{ 1 // 0 }}", "chat_template fails: ZeroDivisionError"),
        ("{{ missing.attribute.of }}", "chat_template fails: UndefinedError"),
        ("hello", "chat_template loses the content of a message: 'How much"),
        ("{{ messages[0].role }}", "chat_template loses the content of a message"),
        ("{{ messages[0].content[:9] }}", "chat_template loses the content of a message"),
        ("{{ messages[0].content | upper }}", "chat_template loses the content of a message"),
    ],
)
def test_a_template_that_raises_or_drops_the_question(
    template: str, message: str, tmp_path: Path
) -> None:
    tokenizer = templated(tmp_path, template)
    with pytest.raises(ValueError, match=rf"tokenizer_config\.json: {message}") as caught:
        list(prompt_tokens([Message("user", "1+1=")], tokenizer).token_ids)
    assert "\n" not in str(caught.value)


def test_a_template_of_its_own_file_is_named(tmp_path: Path) -> None:
    character_tokenizer(ALPHABET, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ 1 // 0 }}")
    with pytest.raises(ValueError, match=r"chat_template\.jinja: chat_template fails"):
        list(prompt_tokens([Message("user", "1")], load_tokenizer(tmp_path)).token_ids)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[-1].content }}",
        "{{ messages[0].content }}",
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
        "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}",
    ],
)
def test_every_message_must_be_there(template: str, tmp_path: Path) -> None:
    roles = ("system", "user", "assistant", "user")
    turns = [Message(role, f"content {i}") for i, role in enumerate(roles)]
    with pytest.raises(ValueError, match="loses the content of a message: 'content"):
        render_text(turns, templated(tmp_path, template))


def test_a_message_that_comes_twice_must_be_there_twice(tmp_path: Path) -> None:
    turns = [Message(role, "yes") for role in ("user", "assistant", "user")]
    tokenizer = templated(tmp_path, "{{ messages[-1].content }}")
    with pytest.raises(ValueError, match="loses the content of a message: 'yes'"):
        render_text(turns, tokenizer)


@pytest.mark.parametrize("thought", ["<think>so</think>", "so</think>", "<think>a\nb</think> "])
def test_thoughts_of_earlier_turns_and_space_around_may_go(thought: str, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content.split('</think>')[-1] | trim }};{% endfor %}"
    tokenizer = templated(tmp_path, template)
    turns = [
        Message("user", " 1+1= \n"),
        Message("assistant", f"{thought}\n2"),
        Message("user", "?"),
    ]
    assert render_text(turns, tokenizer) == "1+1=;2;?;"
    with pytest.raises(ValueError, match="loses the content"):
        render_text(turns[:2], tokenizer)  # not of the turn that is trained on


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_byte_order_marks_are_skipped(name: str, tmp_path: Path) -> None:
    tokenizer = templated(tmp_path, EACH)
    file = tmp_path / name
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    marked = load_tokenizer(tmp_path)
    assert marked.get_vocab() == tokenizer.get_vocab()
    assert marked.chat_template == EACH and marked.name_or_path == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("tokenizer_config.json", "eos_token", 3),
        ("tokenizer_config.json", "mask_token", {"text": "<mask>"}),
        ("tokenizer_config.json", "chat_template", {"a": 1}),
        ("tokenizer_config.json", "added_tokens_decoder", {"x": {"content": "a"}}),
        ("tokenizer.json", "model", None),
        ("tokenizer.json", "model", {"type": "WordLevel", "vocab": {"a": "b"}}),
        ("tokenizer.json", "added_tokens", [{"content": "a"}]),
        ("tokenizer.json", "normalizer", 7),
        ("tokenizer.json", "decoder", {"type": "None such"}),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, key: str, value: object, tmp_path: Path
) -> None:
    character_tokenizer(ALPHABET, tmp_path)
    file = tmp_path / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=name) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_tokens_joined_are_the_text(kind: str, tmp_path: Path) -> None:
    ids, decode_ids = build_decoders(tmp_path)[kind]
    tokenizer = load_tokenizer(tmp_path / kind)
    if kind in ("words", "pieces"):
        with pytest.raises(ValueError, match="structured output needs the texts of single tokens"):
            token_bytes(tokenizer)
        return
    texts = token_bytes(tokenizer)
    rng = random.Random(0)
    for _ in range(200):
        some = rng.choices(ids, k=rng.randrange(1, 12))
        joined = b"".join(texts[i] for i in some)
        assert joined.decode(errors="replace") == decode_ids(some)
    assert len(texts) == num_tokens(tokenizer)
    assert all(texts[i] == b"" for i in special_tokens(tokenizer))
