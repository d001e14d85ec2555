"""A conversation: answers, settings, files, and what an interruption leaves."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.seeing import NUM_VECTORS, make_seeing, picture
from tests.toy import toy_checkpoint
from unmask.cli import chat_session
from unmask.cli.chat_session import HELP, SETTINGS, Session
from unmask.engine.llm import LLM
from unmask.runs.print import read_trajectories
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Image, Message
from unmask.viewer.view import write_view

SHORT = SamplingParams(max_tokens=9, seed=3)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM(toy_checkpoint(tmp_path_factory.mktemp("toy"), max_length=64))


def session_of(llm: LLM, system: str | None = None) -> tuple[Session, io.StringIO]:
    file = io.StringIO()
    return Session(llm, SHORT, Console(file=file, force_terminal=False), system), file


def test_answers_are_those_of_the_engine_and_stay_in_the_conversation(
    llm: LLM, capsys: pytest.CaptureFixture[str]
) -> None:
    session, file = session_of(llm, system="12")
    assert session.take("3+4=") and session.take(" 5 ") and session.take("")
    first, second = session.messages[2].content, session.messages[4].content
    assert [message.role for message in session.messages] == [
        *("system", "user", "assistant", "user", "assistant")
    ]
    assert file.getvalue() == f"{first}\n{second}\n"
    for number, turns in ((0, session.messages[:2]), (1, session.messages[:4])):
        prompt = "".join(message.content for message in turns)
        trajectory = session.answers[number]
        asked = replace(SHORT, seed=derive_seed(3, number))
        assert llm.complete([trajectory.prompt], [asked]) == [trajectory]
        assert llm.decode(trajectory.prompt.token_ids) == prompt
    statistics = capsys.readouterr().err.splitlines()
    count = session.answers[1].num_response
    assert statistics[1].startswith(f"{count} tokens, ") and "tokens/s, " in statistics[1]
    per_forward = count / session.answers[1].num_forwards
    assert f"{per_forward:.2f} tokens per forward" in statistics[1]
    finishes = [trajectory.finish for trajectory in session.answers]
    assert [line.endswith(", cut at max_tokens") for line in statistics] == [
        finish == "length" for finish in finishes
    ]


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("/strategy static", "strategy", "static"),
        ("/threshold 0.5", "threshold", 0.5),
        ("/temperature 0", "temperature", 0.0),
        ("/block_size 8", "block_size", 8),
        ("/denoising_steps 2", "denoising_steps", 2),
        ("/max_tokens  4", "max_tokens", 4),
        ("/seed 7", "seed", 7),
    ],
)
def test_settings_hold_from_the_next_answer_on(line: str, field: str, value: Any, llm: LLM) -> None:
    session, file = session_of(llm)
    assert session.take(line)
    assert session.take(line.split()[0]), "without a value it is printed"
    assert file.getvalue() == f"{field} = {value}\n" * 2
    session.take("1+")
    asked = replace(SHORT, **{field: value})
    assert getattr(session.answers[0].sampling, field) == (
        derive_seed(7, 0) if field == "seed" else getattr(asked, field)
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/threshold 7", "threshold = 7.0: must be above 0"),
        ("/threshold much", "/threshold much: must be a number"),
        ("/block_size 1.5", "/block_size 1.5: must be a number"),
        ("/strategy best", "strategy = 'best': must be one of"),
        ("/nonsense", "/nonsense: no such command; /help lists them"),
        ("/reset now", "/reset now: no such command"),
        ("/save", "/save: no such command"),
        ("/save x.jsonl", "/save x.jsonl: there is no answer yet"),
        ("Z", "cannot encode 'Z': no token for 'Z'"),
        ("1" * 60, "a prompt of 60 tokens and max_tokens = 9 take 69 positions"),
    ],
)
def test_wrong_lines_change_nothing(line: str, message: str, llm: LLM) -> None:
    session, _ = session_of(llm)
    with pytest.raises(ValueError) as caught:
        session.take(line)
    assert str(caught.value).startswith(message)
    assert (session.sampling, session.messages, session.answers) == (SHORT, [], [])
    assert llm.engine.is_idle


def test_help_names_every_command(llm: LLM) -> None:
    session, file = session_of(llm)
    assert session.take("/help")
    assert file.getvalue() == f"{HELP}\n"
    assert all(f"/{name}" in HELP for name in (*SETTINGS, "image", "save", "reset", "help", "quit"))
    assert not session.take("/quit")


def test_reset_begins_a_new_conversation(llm: LLM) -> None:
    session, _ = session_of(llm, system="12")
    session.take("3")
    session.take("/threshold 0.5")
    session.take("/reset")
    assert (session.messages, session.answers) == ([Message("system", "12")], [])
    assert session.sampling.threshold == 0.5


def test_saved_answers_are_records_of_trajectories(llm: LLM, tmp_path: Path) -> None:
    session, file = session_of(llm)
    session.take("3+")
    session.take("4=")
    path = tmp_path / "a b.jsonl"
    session.take(f"/save {path}")
    assert f"2 answers in {path}" in file.getvalue()
    records = read_trajectories(path)
    assert records and [record["text"] for record in records] == [
        message.content for message in session.messages if message.role == "assistant"
    ]
    assert records[1]["prompt"]["messages"] == [
        {"role": m.role, "content": m.content} for m in session.messages[:3]
    ]
    assert records[0]["canvas_ids"] == [*session.answers[0].canvas_ids]
    assert json.dumps(records[0]["sampling"])
    page = tmp_path / "page.html"
    found = write_view(path, page)
    assert len(found.islands) == 2 and page.is_file(), "unmask view plays them"
    with pytest.raises(FileExistsError):
        session.take(f"/save {path}")


def test_an_interruption_frees_the_pages_and_keeps_nothing(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = session_of(llm)
    session.take("3+")
    messages = [*session.messages]

    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(chat_session, "_ignore", interrupt)
        session.take("4=")
    assert session.messages == messages and len(session.answers) == 1
    assert llm.engine.is_idle and llm.engine._pages.num_pages == 0
    session.take("4=")
    assert len(session.answers) == 2


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    llm = LLM(toy_checkpoint(tmp_path_factory.mktemp("seeing"), max_length=256))
    make_seeing(llm)
    return llm


@pytest.mark.parametrize("line", ["/image {}", "/image '{}'", "{}", "'{}'", '"{}" ', "{escaped}"])
def test_an_image_goes_with_the_next_message(line: str, seeing: LLM, tmp_path: Path) -> None:
    path = tmp_path / "a b.PNG"
    path.write_bytes(picture())
    if line == "{}":
        path = path.rename(tmp_path / "a.png")
    session, _ = session_of(seeing)
    session.take(line.format(path, escaped=str(path).replace(" ", "\\ ")))
    assert session.images == [Image("red", picture())] and not session.messages
    session.take("1+")
    session.take("2")
    assert session.images == []
    assert session.messages[0] == Message("user", "<image>\n1+", (Image("red", picture()),))
    assert session.messages[2] == Message("user", "2"), "and stays in the conversation"
    prompts = [answer.prompt for answer in session.answers]
    assert [len(prompt.images) for prompt in prompts] == [1, 1]
    assert prompts[0].token_ids[: NUM_VECTORS + 2] == prompts[1].token_ids[: NUM_VECTORS + 2]
    session.save(tmp_path / "answers.jsonl")
    records = read_trajectories(tmp_path / "answers.jsonl")
    assert records and records[0]["prompt"]["messages"][0]["images"][0]["name"] == str(path)


def test_a_file_among_words_is_not_silently_text(seeing: LLM, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    session, _ = session_of(seeing)
    with pytest.raises(ValueError, match=r"a\.png is a file: add it with /image .*a\.png"):
        session.take(f"{path} 1+")
    with pytest.raises(ValueError, match="cannot encode"):  # it is text: the toy has no slash
        session.take(f" {path} 1+")
    with pytest.raises(ValueError, match="no such command"):
        session.take(f"{path}x")
    assert (session.images, session.messages) == ([], [])
    session.take("/image " + str(path))
    session.take("/image " + str(path))
    with pytest.raises(ValueError, match="1 <image> for 2 images"):
        session.take("<image>1+")
    assert len(session.images) == 2, "they go with the next question"
    session.take("<image>1+<image>")
    assert session.messages[0].content == "<image>1+<image>"
    session.take(str(path))
    session.take("/reset")
    assert session.images == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read as an image"), (b"", "is empty"), (b"text", "is no image of one of")],
)
def test_an_image_that_cannot_be_read_is_refused_at_once(
    content: bytes | None, reason: str, seeing: LLM, tmp_path: Path
) -> None:
    session, path = session_of(seeing)[0], tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.png {reason}"):
        session.take(f"/image {path}")
    assert session.images == []


def test_a_text_model_refuses_an_image_at_once(llm: LLM, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    with pytest.raises(ValueError, match=r"a\.png: this model reads text only"):
        session_of(llm)[0].take(str(tmp_path / "a.png"))
