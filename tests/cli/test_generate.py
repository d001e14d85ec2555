"""`unmask generate`: responses to words as text, and to files and stdin as JSON Lines."""

import io
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.test_main import run
from tests.models.vision import mmada
from tests.toy import toy_checkpoint
from tests.trainers.toy_images import write_files
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.engine.llm import LLM
from unmask.presets import preset
from unmask.runs.print import read_trajectories
from unmask.runs.trajectories import grid_ids, trajectory_record
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Image, Message, Prompt
from unmask.viewer.traces import is_playable

SHORT = ("--max-tokens", "9")
CODEC = mmada.FOLDER.parent / "magvitv2"
SYSTEM = '{"role": "system", "content": "-"}'  # LLaDA-V's own has letters that the toy does not


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy_checkpoint(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="module")
def llm(model: str) -> LLM:
    return LLM(model)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def test_words_are_answered_with_text(
    model: str, llm: LLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [one.text for one in llm.generate(["1+2=", "4-3="], SamplingParams(max_tokens=9))]
    assert run(monkeypatch, "generate", model, "1+2=", "4-3=", *SHORT, "--no-chat") == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("".join(f"{text}\n" for text in expected), "")


def test_options_are_fields_of_sampling(
    model: str, llm: LLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--preset", "llada2_1", "--threshold", "0.8", "--temperature", "1.5", "--seed", "4")
    sizes = ("--block-size", "8", "--denoising-steps", "2", "--n", "2")
    assert run(monkeypatch, "generate", model, "1+2=", *words, *sizes, *SHORT) == 0
    changes = {"threshold": 0.8, "temperature": 1.5, "seed": 4, "block_size": 8, "n": 2}
    asked = preset("llada2_1", denoising_steps=2, max_tokens=9, **changes)
    expected = [one.text for one in llm.generate(["1+2="], asked)[0].outputs]
    assert capsys.readouterr().out == "".join(f"{text}\n" for text in expected)
    assert run(monkeypatch, "generate", model, "1", "--preset", "sdra") == 2
    assert error_of(capsys).startswith("preset = 'sdra': must be one of sdar, ")
    assert run(monkeypatch, "generate", model, "1", "--threshold", "7") == 2
    assert error_of(capsys).startswith("threshold = 7.0: must be above 0 and at most 1: ")


@pytest.mark.parametrize("place", ["file", "stdin"])
@pytest.mark.parametrize("is_json", [False, True])
def test_a_file_of_prompts_gives_a_record_for_each_in_their_order(
    is_json: bool,
    place: str,
    model: str,
    llm: LLM,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = ["1+2=", "4-3=12", "7+8=", "1"]
    lines = [json.dumps({"prompt": text, "id": 3}) for text in texts] if is_json else texts
    content = "\ufeff" + "\n\n".join(lines) + "\n"
    file = tmp_path / ("prompts.jsonl" if is_json else "prompts.txt")
    file.write_text(content)
    stdin = io.TextIOWrapper(io.BytesIO(content.encode()))
    monkeypatch.setattr(sys, "stdin", stdin if place == "stdin" else sys.stdin)
    out = tmp_path / "out.jsonl"
    source = {"file": ["--from", str(file)], "stdin": []}[place]
    words = [*source, *SHORT, "--n", "2", "--out", str(out)]
    assert run(monkeypatch, "generate", model, *words) == 0
    shown = capsys.readouterr()
    assert shown.out == "" and "generate 8/8" in shown.err and "tokens/s" in shown.err
    prompts = [Prompt("generate", uid, (Message("user", text),)) for uid, text in enumerate(texts)]
    pairs = [
        (prompt, SamplingParams(max_tokens=9, seed=derive_seed(0, index)))
        for prompt in llm.tokenize(prompts)
        for index in range(2)
    ]
    expected = llm.complete(*([*column] for column in zip(*pairs, strict=True)))
    records = [
        trajectory_record(t, llm.text(t), None, pieces=llm.pieces(grid_ids(t))) for t in expected
    ]
    records = json.loads(json.dumps(records))
    assert written(out) == records
    uids = [record["prompt"]["uid"] for record in read_trajectories(out) or []]
    assert uids == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(is_playable(record) for record in records)
    assert run(monkeypatch, "show", str(out)) == 0
    assert capsys.readouterr().out.count("response") == 3


def test_conversations_are_answered(
    model: str,
    llm: LLM,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    turns = [{"role": "user", "content": "1+"}, {"role": "assistant", "content": "2="}]
    file = tmp_path / "conversations.jsonl"
    file.write_text(json.dumps({"messages": turns}))
    assert run(monkeypatch, "generate", model, "--from", str(file), *SHORT) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert record["prompt"]["messages"] == turns
    assert record["text"] == llm.generate(["1+2="], SamplingParams(max_tokens=9))[0].text
    assert run(monkeypatch, "generate", model, "--from", str(file), "--no-chat") == 2
    assert error_of(capsys) == (
        f"--from = {file}, line 1: messages are rendered by the chat template: leave out --no-chat"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"prompt": "1"}\n{"prompt"\n', "line 2: not JSON: "),
        ("p.jsonl", '{"prompt": "1"}\n{"text": "2"}', 'line 2: must be {"prompt": "..."} or '),
        ("p.jsonl", '{"prompt": "1", "messages": []}', "line 1: must be "),
        ("p.jsonl", "5", "line 1: must be "),
        ("p.jsonl", '{"prompt": 5}', "line 1: prompt must be a text"),
        ("p.jsonl", '{"messages": "1"}', "line 1: messages must be a list of messages"),
        ("p.jsonl", '{"messages": []}', "line 1: chat takes a list of conversations"),
        ("p.jsonl", '{"messages": [{"role": "user"}]}', "line 1: the message {'role': 'user'}: "),
        ("p", '{"prompt": "1"}\n{"prompt": "Z"}', "line 2: cannot encode 'Z': no token for 'Z'"),
        ("p.txt", "1\n\n" + "2" * 200, "line 3: a prompt of 200 tokens and max_tokens = 9 take"),
        ("p.txt", "1\nÿ\n", "line 2: cannot encode"),
    ],
)
def test_a_broken_line_is_one_error_with_file_and_line(
    name: str,
    content: str,
    message: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / name, tmp_path / "out.jsonl"
    file.write_text(content)
    words = ("--from", str(file), "--out", str(out), *SHORT)
    assert run(monkeypatch, "generate", model, *words) == 2
    assert error_of(capsys).startswith(f"--from = {file}, {message}")
    assert not out.exists()


def test_what_is_no_text_is_refused(
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "p.txt"
    file.write_bytes(b"1\n\xff\xfe\n")
    assert run(monkeypatch, "generate", model, "--from", str(file)) == 2
    assert error_of(capsys).startswith(f"--from = {file}, line 2: not UTF-8: ")
    for content in (b"", b"\n \n"):
        file.write_bytes(content)
        assert run(monkeypatch, "generate", model, "--from", str(file)) == 2
        assert error_of(capsys) == f"--from {file}: holds no prompt"
    assert run(monkeypatch, "generate", model, "1", "--from", str(file)) == 2
    assert error_of(capsys) == f"--from {file}: give prompts as words or as a file, not both"
    assert run(monkeypatch, "generate", model, "--from", str(tmp_path / "absent")) == 2
    assert error_of(capsys) == f"{tmp_path / 'absent'}: No such file or directory"
    assert run(monkeypatch, "generate", model, "1", "--out", str(file)) == 2
    assert error_of(capsys) == f"--out {file}: exists; remove it or name another file"
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    assert run(monkeypatch, "generate", model) == 2
    assert error_of(capsys).startswith("no prompt: give it as a word, in a file with --from FILE")


def test_a_broken_response_leaves_the_others_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model's logits are NaN where it reads a 7, which it never writes."""
    place = toy_checkpoint(tmp_path / "model")
    broken = load_model(place)
    with torch.no_grad():
        broken.backbone.embedding.weight[9] = torch.nan
        broken.head.projection.weight[9] = 0
    save_model(broken, place)
    file, out = tmp_path / "p.txt", tmp_path / "out.jsonl"
    file.write_text("1\n7\n2\n3\n")
    words = ("--from", str(file), "--out", str(out), "--temperature", "0", *SHORT)
    assert run(monkeypatch, "generate", str(place), *words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of 4 responses could not be written (generate prompt 1)")
    assert [record["prompt"]["uid"] for record in written(out)] == [0, 2, 3]


def test_a_terminal_gets_no_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gets the text as it is."""
    model = str(toy_checkpoint(tmp_path, alphabet="\x1b\x07\x9b1"))
    words = ("generate", model, "1", *SHORT, "--no-chat")
    assert run(monkeypatch, *words) == 0
    text = capsys.readouterr().out
    assert "\x1b" in text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(monkeypatch, *words) == 0
    shown = capsys.readouterr().out
    assert len(shown) == len(text) and not set(shown[:-1]) & {"\x1b", "\x07", "\x9b"}


@pytest.mark.parametrize("reads", ["vectors", "tokens"])
def test_a_model_that_sees_answers_about_an_image(
    reads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path)
    options, image = SHORT, tmp_path / "0.png"
    llm = LLM(tmp_path / "checkpoint")
    if reads == "tokens":
        llm = LLM(*seeing_mmada(tmp_path))
        options = (*SHORT, "--image-codec", str(CODEC))
    question = '[{"type": "image", "path": "0.png"}, {"type": "text", "text": "1+2="}]'
    file = tmp_path / "asked.jsonl"
    file.write_text(f'{{"messages": [{SYSTEM}, {{"role": "user", "content": {question}}}]}}')
    out = tmp_path / "out.jsonl"
    words = ("--from", str(file), "--out", str(out), *options)
    assert run(monkeypatch, "generate", str(llm.model.source), *words) == 0
    (record,) = written(out)
    messages = [Message("system", "-"), Message.of("user", Image("0", image.read_bytes()), "1+2=")]
    (expected,) = llm.chat(messages, SamplingParams(max_tokens=9))
    assert record["text"] == expected.text
    assert [one["name"] for one in record["prompt"]["messages"][1]["images"]] == [str(image)]
    assert (min(record["prompt"]["token_ids"]) < 0) == (reads == "vectors")
    assert run(monkeypatch, "view", str(out), "--out", str(tmp_path / "page.html")) == 0
    assert "data:image/png;base64" in (tmp_path / "page.html").read_text()
    capsys.readouterr()
    assert run(monkeypatch, "show", str(out)) == 0
    assert f"[{image}]" in capsys.readouterr().out
    lost = ("--image", str(tmp_path / "gone.png"))
    assert run(monkeypatch, "generate", str(llm.model.source), "1+", *lost, *options) == 2
    assert error_of(capsys).endswith(
        "gone.png cannot be read as an image: No such file or directory"
    )


def seeing_mmada(folder: Path) -> tuple[Path, str, str, None, Path]:
    """Write an MMaDA whose images are 64 codes, and return the arguments of its `LLM`."""
    model = shutil.copytree(mmada.FOLDER, folder / "mmada")
    config = json.loads((model / "config.json").read_text())
    ids = replace(mmada.IDS, side=mmada.CASES["image_resolution"] // 4)
    (model / "config.json").write_text(json.dumps(config | {"image_token_ids": asdict(ids)}))
    return model, "cpu", "float32", None, CODEC
