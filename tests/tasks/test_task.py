"""A prompt's number and split follow from its text alone."""

import subprocess
import sys
from collections import Counter

from unmask.tasks.task import prompt_from_text, split_from_text


def test_a_prompt_is_one_user_message_with_a_number_of_its_text():
    prompt = prompt_from_text("toy", "2+2=", {"answer": "4"})
    assert (prompt.task, prompt.token_ids, prompt.reference) == ("toy", (), {"answer": "4"})
    assert [(m.role, m.content) for m in prompt.messages] == [("user", "2+2=")]
    assert 0 <= prompt.uid < 2**31
    assert prompt.uid == prompt_from_text("other", "2+2=", {}).uid
    assert prompt.uid != prompt_from_text("toy", "2+3=", {}).uid


def test_the_number_is_the_same_in_every_process():
    program = "from unmask.tasks.task import prompt_from_text as p; print(p('', 'a', {}).uid)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(shown.stdout) == prompt_from_text("", "a", {}).uid


def test_splits_have_their_shares_and_the_number_does_not_tell_the_split():
    texts = [str(i) for i in range(4000)]
    splits = [split_from_text(text, validation_share=0.2, test_share=0.3) for text in texts]
    count = Counter(splits)
    assert abs(count["test"] - 1200) < 150
    assert abs(count["validation"] - 800) < 150
    numbers = [
        prompt_from_text("", t, {}).uid
        for t, split in zip(texts, splits, strict=True)
        if split == "test"
    ]
    assert abs(sum(numbers) / len(numbers) / 2**30 - 1) < 0.1
    assert split_from_text("a", 0, 0) == "train"
