"""A reward model as a term: the conversation of each answer, in the model's own tokens."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.checkpoints.test_reward_model import write_reward_model
from tests.rewards.toy_answers import PROMPT, answer
from unmask.checkpoints.reward_model import load_reward_model
from unmask.images import Image
from unmask.rewards.reward_model import RewardModelScores
from unmask.types import Message


def test_every_answer_gets_the_score_of_its_own_conversation(tmp_path: Path) -> None:
    theirs = write_reward_model(tmp_path, "Qwen3")
    model = load_reward_model(tmp_path)
    other = replace(PROMPT, messages=(Message("system", "s"), Message("user", "2+2=")))
    groups = [[answer("2"), answer("3")], [answer("4é", prompt=other)]]
    found = RewardModelScores(model, 24)(groups)
    seen = replace(PROMPT, messages=(Message.of("user", Image("a.png", b"a"), "What?"),))
    with pytest.raises(ValueError, match=r"a\.png: this model reads text only"):
        RewardModelScores(model, 24)([[answer(prompt=seen)]])
    assert [len(scores) for scores in found] == [2, 1]
    texts = [
        *("<user>1+1=</s><assistant>2</s>", "<user>1+1=</s><assistant>3</s>"),
        "<system>s</s><user>2+2=</s><assistant>4é</s>",
    ]
    wanted: list[float] = []
    for text in texts:
        ids = torch.tensor([model.tokenizer(text, add_special_tokens=False).input_ids])
        wanted.append(float(theirs(ids).logits[0, 0].detach()))
    assert [s.reward for scores in found for s in scores] == pytest.approx(wanted, abs=1e-5)
