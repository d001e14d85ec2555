"""Problems with images from people's own files."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.images import png, write_png
from tests.tasks.own_files import prompts, rewards
from unmask.configs.task import BOXED_TEMPLATE

QUESTION = {"question": "How many?", "ground_truth_answer": "B", "image": "sub/1.png"}
IMAGE, TEXT = {"type": "image", "path": "sub/2.png"}, {"type": "text", "text": "How many?"}
DLLM_RL = "You need to put your final answer in \\boxed{{}}. This is the problem:\n{question}"


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    for number in (1, 2):
        write_png(tmp_path / "sub" / f"{number}.png", number)


@pytest.mark.parametrize("question", ["How many?", "<image>\nHow many?"])
def test_dllm_rls_fields(question: str, tmp_path: Path) -> None:
    record = {**QUESTION, "question": question, "is_caption": True}
    (prompt,) = prompts(tmp_path, [record])
    (message,) = prompt.messages
    assert message.content == "<image>\n" + BOXED_TEMPLATE.format(question="How many?")
    assert [image.data for image in message.images] == [png(1)]
    assert prompt.reference == {"answer": "B", "is_caption": True}
    (prompt,) = prompts(tmp_path, [record], template=DLLM_RL)
    assert prompt.messages[0].content == "<image>\n" + DLLM_RL.format(question="How many?")


def test_a_marker_inside_of_a_question_keeps_its_place(tmp_path: Path) -> None:
    record = {**QUESTION, "question": "Is <image> the same as <image>?"}
    record["image"] = ["sub/1.png", "sub/2.png"]  # pyright: ignore[reportArgumentType]
    (prompt,) = prompts(tmp_path, [record], template="Q: {question}")
    assert prompt.messages[0].content == "Q: Is <image> the same as <image>?"
    assert len(prompt.messages[0].images) == 2


def test_prompts_of_other_images_have_other_numbers(tmp_path: Path) -> None:
    without = {name: value for name, value in QUESTION.items() if name != "image"}
    other = {**QUESTION, "image": "sub/2.png"}
    found = prompts(tmp_path, [QUESTION, other, without, QUESTION])
    first, second, third, fourth = (prompt.uid for prompt in found)
    assert first == fourth and len({first, second, third}) == 3


def test_messages_with_parts_are_the_whole_prompt(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": [IMAGE, TEXT]},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And here?"}]},
    ]
    record = {"prompt": turns, "images": ["sub/1.png"], "ground_truth_answer": "3"}
    (prompt,) = prompts(tmp_path, [record])
    first, _, last = prompt.messages
    assert (first.content, last.content) == ("<image>\nHow many?", "<image>\nAnd here?")
    assert [m.images[0].data for m in (first, last)] == [png(2), png(1)]
    assert rewards(tmp_path, [record], [r"\boxed{3}"]) == [1.0]


def test_the_reference_of_an_own_reward_holds_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image_reward.py").write_text("def score(prompt, response):\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    (prompt,) = prompts(tmp_path, [{**QUESTION, "level": 3}], reward="image_reward:score")
    assert prompt.reference == {
        "question": "How many?",
        "ground_truth_answer": "B",
        "answer": "B",
        "level": 3,
    }


def test_turns_with_images_are_in_the_messages_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "turn_reward.py").write_text("def score(prompt, response):\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    turns = [{"role": "user", "content": [IMAGE, TEXT]}]
    for content, held in ((turns, {"level"}), ("How many?", {"level", "prompt"})):
        records = [{"prompt": content, "level": 3}]
        (prompt,) = prompts(tmp_path, records, reward="turn_reward:score")
        assert prompt.reference.keys() == held


def test_image_root_is_the_directory_that_paths_are_below(tmp_path: Path) -> None:
    record = {**QUESTION, "image": "1.png"}
    (prompt,) = prompts(tmp_path, [record], image_root=tmp_path / "sub")
    assert prompt.messages[0].images[0].data == png(1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": "sub/3.png"}, r"sub/3\.png cannot be read as an image: No such file"),
        ({"image": "own.jsonl"}, r"own\.jsonl is no image"),
        ({"image": "/etc/hostname"}, r"is outside of .*: set task\.image_root"),
        ({"question": "<image><image>?"}, "the texts have 2 <image>, and the record 1 images"),
        (
            {"question": "<image>\nOne?", "image": None},
            "begins with <image>, and the record has no image",
        ),
        ({"videos": ["a.mp4"]}, "'videos' is not read"),
    ],
)
def test_what_cannot_be_asked_is_named_with_its_record(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"^task\.train = .*own\.jsonl, line 1: .*{message}"):
        prompts(tmp_path, [{**QUESTION, **changed}])
