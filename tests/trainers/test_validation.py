"""Validation: the bound on the likelihood, the loss at each level, and measurements that repeat themselves."""

from itertools import combinations
from math import comb, log
from pathlib import Path

import pytest
import torch

from tests.toy import toy_model
from tests.trainers.toy_runs import metrics, sft_config
from unmask.configs.optimizer import OptimizerConfig
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.views import views_under_noise
from unmask.trainers.learner import Learner
from unmask.trainers.sft import train_sft, validate
from unmask.trainers.validation import LEVELS, level_views, measure, middle_of

FOUND = [Demonstration((2, 3, 4), (5, 6, 7, 8, 0)), Demonstration((2, 9), (10, 11))]
FILLED = ("views.low=0.001", "views.high=1", "data.batch_size=512")


def test_levels_are_drawn_within_their_part() -> None:
    for part in range(LEVELS):
        for view in level_views(FOUND * 9, part, range(18), (4, 0)):
            assert view.noise_level is not None
            level = view.noise_level[:, :2]
            assert ((level >= part / LEVELS) & (level <= (part + 1) / LEVELS)).all()
            assert level.unique().numel() == 1
    assert [middle_of(part) for part in range(LEVELS)] == [10, 30, 50, 70, 90]


@pytest.mark.parametrize("block", [None, 4])
def test_the_bound_is_the_one_that_all_masks_of_a_response_give(
    block: int | None, tmp_path: Path
) -> None:
    """`sum over k of 1/k` times the mean over masks of `k` tokens, enumerated (Nie et al. 2025, equation 6)."""
    changes = {} if block else {"family": "llada", "attention": "full", "block_size": None}
    model = toy_model(**changes)
    learner = Learner(model, OptimizerConfig())
    (prompt, response), size = (FOUND[1].prompt_ids, FOUND[1].response_ids), 2
    exact = 0.0
    for count in range(1, size + 1):
        for hidden in combinations(range(size), count):
            target = torch.tensor([[place in hidden for place in range(size)]])
            # Two positions fill the prompt's block of four.
            view = views_under_noise(prompt, response, size, block or size, target)
            exact -= float(learner.score([view])[0][view.target].sum()) / count / comb(size, count)
    config = sft_config(tmp_path, *FILLED)
    found = [FOUND[1]] * 1000
    value = measure(learner, found, config, (block, 0), lambda *_: [])["val_nelbo"]
    assert value == pytest.approx(exact / size, rel=0.06)


def test_a_uniform_model_has_the_same_loss_at_every_level(tmp_path: Path) -> None:
    model = toy_model()
    with torch.no_grad():
        model.head.projection.weight.zero_()
    config = sft_config(tmp_path, *FILLED)
    found = validate(Learner(model, OptimizerConfig()), FOUND * 60, config, model.spec, fewest=0)
    num_drawable = int(model.head.drawable.sum())
    for name, value in found.items():
        assert value == pytest.approx(log(num_drawable), rel=0.2 if name == "val_nelbo" else 1e-5)


def test_a_run_measures_what_it_holds_out_and_never_trains_it(tmp_path: Path) -> None:
    words = ["steps=3", "eval.every=2", "data.validation=0.3", "task=none"]
    config = sft_config(tmp_path, *words)
    train_sft(config)
    lines = metrics(tmp_path / "run")
    names = {"val_nll", "val_nelbo", *(f"val_nll_t{n}" for n in (10, 30, 50, 70, 90))}
    assert [names <= line.keys() for line in lines] == [False, True, True]
    assert not names & lines[0].keys()
    train_sft(sft_config(tmp_path, *words, "optimizer.lr=1e-30", run="still"))
    still = metrics(tmp_path / "still")
    assert {n: still[1][n] for n in names} == pytest.approx(
        {n: still[2][n] for n in names}, nan_ok=True
    )
