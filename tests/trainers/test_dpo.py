"""`unmask dpo`: whole runs on preference pairs, what they report, resume, and what is refused."""

import json
from pathlib import Path

import pytest

from tests.invariants.test_law_6_resume import interrupt, left_behind
from tests.toy import toy_checkpoint
from tests.trainers.breaking import REWARD
from tests.trainers.toy_pairs import PAIRS, dpo_config
from tests.trainers.toy_runs import metrics
from unmask.checkpoints.checkpoint import load_model
from unmask.trainers.dpo import train_dpo

LONGER = ["steps=12", "optimizer.lr=1e-2", "views.count=2", "pairs.validation=0.3"]


@pytest.mark.parametrize(
    "words", [[], ["lora.rank=4"], ["views.kind=random", "views.low=0.001", "views.high=1"]]
)
def test_a_run_learns_which_answers_are_preferred(words: list[str], tmp_path: Path) -> None:
    run = train_dpo(dpo_config(tmp_path, *LONGER, *words)).parent
    first, *_, last = metrics(run)
    # The policy begins as the reference.
    assert (first["margin"], first["pair_accuracy"]) == (0, 0.5)
    assert first["loss"] == pytest.approx(0.6931471805599453)
    assert last["loss"] < 0.6 and last["pair_accuracy"] == 1 and last["margin"] > 0.2
    assert last["chosen_gain"] > last["rejected_gain"]
    assert last["val_loss"] < 0.69 and last["val_pair_accuracy"] == 1
    load_model(run / "model")


def short_dpo(place: Path, name: str, *words: str) -> Path:
    """Train with a checkpoint every second step; 4 rewards an evaluation."""
    settings = ["steps=6", "save_every=2", "eval.every=2", "eval.problems=4", REWARD, *words]
    return train_dpo(dpo_config(place, *settings, run=name), resume=True).parent


@pytest.mark.parametrize("words", [["loss.sft=0.1"], ["lora.rank=2"]])
def test_a_run_that_is_preempted_is_the_run_that_is_not(words: list[str], tmp_path: Path) -> None:
    for how in ("raise:2", "SIGINT:6", "nan:2"):
        interrupt(short_dpo, tmp_path, "parts", how, *words)
    whole = left_behind(short_dpo(tmp_path, "whole", *words))
    assert left_behind(short_dpo(tmp_path, "parts", *words)) == whole
    assert all(line["gradient_norm"] > 0 for line in whole["metrics"])


def test_epochs_count_passes_over_the_pairs(tmp_path: Path) -> None:
    run = train_dpo(dpo_config(tmp_path).model_copy(update={"epochs": 2})).parent
    assert len(metrics(run)) == 3  # 6 pairs, 4 a step


def test_a_recorded_order_is_trained_along_it(tmp_path: Path) -> None:
    pairs = [
        {
            "prompt_ids": [3, 4],
            "chosen_ids": [5, 6, 7],
            "rejected_ids": [8, 9],
            "chosen_step_map": [2, 1, 3],
            "rejected_step_map": [1, 1],
        }
    ]
    path = tmp_path / "ids.jsonl"
    path.write_text("\n".join(map(json.dumps, pairs)))
    run = train_dpo(dpo_config(tmp_path, f"pairs.path={path}", "views.kind=trace")).parent
    assert metrics(run)[-1]["margin"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["views.kind=trace"],
            'views.kind = "trace" needs the step_map of every answer, and 12 of 12',
        ),
        (
            ["pairs.max_tokens=7"],
            r"pairs.jsonl, line \d: an answer has \d+ tokens with its prompt, and 7",
        ),
        (
            ["pairs.max_tokens=2", "pairs.too_long=drop"],
            "holds no pairs of at most 2 tokens an answer",
        ),
        (["pairs.validation=missing.jsonl"], "pairs.validation.path = missing.jsonl: no such file"),
        (["loss.kl_to=/nowhere"], "/nowhere: no such directory"),
        (["optimizer.token_budget=8"], "token_budget"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train_dpo(dpo_config(tmp_path, *words))
    assert not (tmp_path / "run").exists()


def test_too_long_pairs_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_dpo(dpo_config(tmp_path, "pairs.max_tokens=8", "pairs.too_long=drop", "steps=1"))
    assert "of more than 8 tokens are left out" in capsys.readouterr().err
    assert len(PAIRS) == 6


def test_another_reference_is_loaded(tmp_path: Path) -> None:
    config = dpo_config(tmp_path)
    other = toy_checkpoint(tmp_path / "other")
    run = train_dpo(dpo_config(tmp_path, f"loss.kl_to={other}", "steps=1")).parent
    assert metrics(run)[0]["margin"] != 0
    assert config.loss.kl_to == "reference"
