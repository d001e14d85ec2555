"""Law 9: a short RL run on a toy task raises its reward."""

from pathlib import Path
from statistics import fmean

import pytest

from tests.trainers.toy_methods import FILES, words_of
from tests.trainers.toy_runs import metrics, rl_config
from unmask.trainers.rl import train_rl


def test_a_short_run_teaches_the_model_to_write_sevens(tmp_path: Path) -> None:
    words = ["steps=8", "rollout.prompts=6", "rollout.responses=8", "optimizer.lr=1e-2"]
    train_rl(rl_config(tmp_path, *words, "minibatches=2"))
    rewards = [line["reward"] for line in metrics(tmp_path / "run")]
    assert rewards[0] < 0.1
    assert fmean(rewards[-2:]) > 0.5


@pytest.mark.parametrize("word", ["sampling.edit_threshold=0.1", "sampling.remask_threshold=0.05"])
def test_so_does_one_whose_sampler_revises_what_it_wrote(word: str, tmp_path: Path) -> None:
    words = ["steps=6", "rollout.prompts=4", "rollout.responses=8", "optimizer.lr=1.2e-2"]
    train_rl(rl_config(tmp_path, *words, word, "sampling.max_edit_steps=2"))
    outcomes = [line["reward_outcome"] for line in metrics(tmp_path / "run")]
    assert outcomes[0] < 0.1
    assert outcomes[-1] > 0.3
    assert '"revisions"' in (tmp_path / "run" / "trajectories.jsonl").read_text()


# What a random teacher reads out of an answer raises no reward.
@pytest.mark.parametrize("method", [name for name in FILES if name != "dopsd"])
def test_so_does_a_shorter_one_of_every_shipped_method(method: str, tmp_path: Path) -> None:
    words = ["steps=4", "rollout.prompts=4", "rollout.responses=8", "optimizer.lr=1.2e-2"]
    train_rl(rl_config(tmp_path, *words, *words_of(method)))
    outcomes = [line["reward_outcome"] for line in metrics(tmp_path / "run")]
    assert outcomes[0] < 0.1
    assert outcomes[-1] > 0.3
