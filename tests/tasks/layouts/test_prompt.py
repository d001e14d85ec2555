"""The layout `prompt`: texts and conversations, with a ground truth or an own reward, and never without both."""

from pathlib import Path
from typing import Any

import pytest

from tests.tasks.own_files import prompts, rewards
from unmask.types import Message

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And 2+2?"},
]
TRUTH = {"ground_truth_answer": "solution"}


def test_a_text_is_the_whole_prompt_and_a_conversation_keeps_its_turns(tmp_path: Path):
    (text,) = prompts(tmp_path, [{"prompt": "2+2? {}", "solution": "4"}], fields=TRUTH)
    assert text.messages == (Message("user", "2+2? {}"),)
    (talk,) = prompts(tmp_path, [{"prompt": TURNS, "solution": 4}], fields=TRUTH)
    assert talk.messages == tuple(Message(t["role"], t["content"]) for t in TURNS)  # pyright: ignore[reportArgumentType]
    assert talk.reference == {"answer": "4"}


def test_a_template_fills_the_last_turn(tmp_path: Path):
    keys: dict[str, Any] = {"fields": TRUTH, "template": "{question} Box it."}
    (prompt,) = prompts(tmp_path, [{"prompt": TURNS, "solution": 4}], **keys)
    assert prompt.messages[-1].content == "And 2+2? Box it."
    assert prompt.messages[0].content == "Be brief."


def test_conversations_that_differ_before_the_last_turn_have_different_numbers(tmp_path: Path):
    other = [{"role": "system", "content": "Explain."}, *TURNS[1:]]
    records = [{"prompt": p, "solution": 4} for p in (TURNS, other, TURNS[-1:])]
    assert len({prompt.uid for prompt in prompts(tmp_path, records, fields=TRUTH)}) == 3


def test_answers_that_the_prompt_asks_for_in_words_are_graded(tmp_path: Path):
    responses = ["The answer is 4.", "so it is\n#### 4", r"\boxed{4}", "It is 4 or so", "#### 5"]
    records = [{"prompt": f"{n}: 2+2?", "solution": 4} for n in range(5)]
    assert rewards(tmp_path, records, responses, fields=TRUTH) == [1.0, 1.0, 1.0, 0.0, 0.0]
    strict = rewards(tmp_path, records, responses, fields=TRUTH, extraction="boxed")
    assert strict == [0.0, 0.0, 1.0, 0.0, 0.0]


def test_an_own_reward_needs_no_ground_truth_and_gets_all_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    code = "def score(prompt, response): return float(response == prompt.reference['target'])"
    (tmp_path / "target_reward.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    records = [{"prompt": "say a", "target": "a"}, {"prompt": "say b", "target": "b"}]
    assert rewards(tmp_path, records, ["a", "a"], reward="target_reward:score") == [1.0, 0.0]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "q"}, "'ground_truth_answer' is what responses are graded by.*task.reward"),
        ({"prompt": "q", "solution": None}, "'ground_truth_answer' is what"),
        ({"prompt": " ", "solution": 1}, "'prompt' must end with a turn of the user that is not empty"),
        ({"prompt": "a\0", "solution": 1}, "'prompt' holds a NUL character"),
        ({"prompt": TURNS[:3], "solution": 1}, "'prompt' must end with a turn of the user"),
        ({"prompt": [{"role": "tool", "content": "x"}], "solution": 1}, r"prompt\[0\]: unknown role"),
        ({"prompt": [], "solution": 1}, "'prompt' must be a list of turns"),
        ({"prompt": "q", "solution": 1, "images": ["a.png"]}, "a.png cannot be read as an image"),
        ({"prompt": "q", "solution": 1, "videos": ["a.mp4"]}, "'videos' is not read"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_or_graded_is_refused(
    tmp_path: Path, record: dict[str, Any], message: str
):
    fields = TRUTH if "solution" in record else {}
    with pytest.raises(ValueError, match=rf"task\.train = .*own\.jsonl, line 1: .*{message}"):
        prompts(tmp_path, [record], fields=fields)
