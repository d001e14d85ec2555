"""`unmask reward-model`: it learns preferences, resumes, and RL trains on its scores."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.invariants.test_law_6_resume import left_behind
from tests.models.toy import family_model
from tests.trainers.toy_pairs import PAIRS, dpo_config, reward_config
from tests.trainers.toy_runs import metrics, rl_config
from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.random_init import byte_tokenizer
from unmask.checkpoints.reward_model import load_reward_backbone, load_reward_model, packed_scores
from unmask.configs.load import dump
from unmask.runs.read import RunFiles
from unmask.runs.signals import Stopped
from unmask.trainers import reward_model
from unmask.trainers.reward_model import train_reward_model
from unmask.trainers.rl import train_rl
from unmask.types import Message

LONGER = ["steps=30", "optimizer.lr=1e-2"]


def test_it_learns_which_answers_are_preferred_and_rl_trains_on_its_scores(tmp_path: Path) -> None:
    words = [*LONGER, "pairs.validation=0.3", "measure_every=10"]
    model = train_reward_model(reward_config(tmp_path, *words))
    first, *_, last = metrics(model.parent)
    assert first["loss"] == pytest.approx(0.6931471805599453)
    assert (first["margin"], first["pair_accuracy"]) == (0, 0.5)  # the head begins at 0
    assert last["loss"] < 0.1 and last["pair_accuracy"] == 1
    assert last["val_pair_accuracy"] == 1 and last["val_loss"] < 0.3
    assert [line["step"] for line in metrics(model.parent) if "val_loss" in line] == [10, 20, 30]
    judge = load_reward_model(model)
    for pair in PAIRS:
        texts = [
            [Message("user", pair["prompt"]), Message("assistant", pair[key])]
            for key in ("chosen", "rejected")
        ]
        better, worse = judge.score([judge.tokenize(text) for text in texts], 64)
        assert better > worse
    term = f'reward=[{{kind="reward_model", path="{model}"}}]'
    run = train_rl(rl_config(tmp_path, term, run="rl")).parent
    assert all(line["reward_reward_model"] != 0 for line in metrics(run))


def test_the_scores_that_are_trained_are_those_that_are_loaded(tmp_path: Path) -> None:
    """In one pass or in several: the last measurement is that of the saved model."""
    words = ["steps=3", "pairs.validation=0.3", "optimizer.lr=1e-2"]
    runs = {
        budget: train_reward_model(
            reward_config(tmp_path, *words, f"optimizer.token_budget={budget}", run=str(budget))
        )
        for budget in (16, 4096)
    }
    lines = {budget: metrics(model.parent) for budget, model in runs.items()}
    for one, other in zip(lines[16], lines[4096], strict=True):
        assert one.keys() == other.keys()
        assert all(one[k] == pytest.approx(other[k], rel=1e-4, abs=1e-6) for k in one)


@pytest.mark.parametrize("family", ["sdar", "llada", "dream", "llada2"])
def test_any_family_has_a_head(family: str, tmp_path: Path) -> None:
    """Saved with a head and loaded again, to the bit."""
    save_model(family_model(family), tmp_path)
    byte_tokenizer(tmp_path)
    model = load_reward_backbone(tmp_path)
    assert not model.value_head.weight.any()
    with torch.no_grad():
        model.value_head.weight.normal_()
        texts = [[5, 6, 7], [8, 9]]
        scores = packed_scores(model, texts, ())
        save_model(model, tmp_path / "judge")
        assert load_reward_model(tmp_path / "judge").score(texts, 64) == scores.tolist()
        again = load_reward_backbone(tmp_path / "judge")
    assert torch.equal(again.value_head.weight, model.value_head.weight)


def test_a_run_that_is_stopped_is_the_run_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["steps=4", "save_every=2", "pairs.validation=0.3", "measure_every=1"]

    def train(name: str) -> Path:
        return train_reward_model(reward_config(tmp_path, *words, run=name), resume=True).parent

    measured: Callable[..., Any] = reward_model._measure  # pyright: ignore[reportPrivateUsage]
    count = 0

    def stopping(outputs: Any) -> dict[str, float]:
        nonlocal count
        count += 1
        if count in (2, 4):
            signal.raise_signal(signal.SIGTERM)
        return measured(outputs)

    with monkeypatch.context() as patch:
        patch.setattr(reward_model, "_measure", stopping)
        for _ in range(2):
            with pytest.raises(Stopped):
                train("parts")
    whole = left_behind(train("whole"))
    assert left_behind(train("parts")) == whole


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pairs.layout=tokens"], r'pairs.layout = "tokens": a reward model reads conversations'),
        (["pairs.rendered=true"], "pairs.rendered = true: a reward model reads conversations"),
        (["measure_every=2"], "there is no pairs.validation to measure"),
        (["pairs.max_tokens=3"], "an answer has .* tokens with its prompt, and 3 are allowed"),
        (["model.batch_invariant=true"], "a reward model has no engine"),
        (["model.trains=all"], "the model has no vision side"),
        (["loss.kind=dpo"], "unknown key loss"),
        (["task.kind=json"], "unknown key task"),
    ],
)
def test_what_it_cannot_train_on_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train_reward_model(reward_config(tmp_path, *words))
    assert not (tmp_path / "judge").exists()


def test_token_ids_without_a_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text(json.dumps([{"prompt_ids": [3], "chosen_ids": [4], "rejected_ids": [5]}]))
    with pytest.raises(ValueError, match="item 1: a reward model reads a conversation that ends"):
        train_reward_model(reward_config(tmp_path, f"pairs.path={path}"))


def test_a_run_of_pairs_is_listed_by_its_kind(tmp_path: Path) -> None:

    assert RunFiles(tmp_path, dump(reward_config(tmp_path))).kind == "reward-model"
    assert RunFiles(tmp_path, dump(dpo_config(tmp_path))).kind == "dpo"
