"""The run: what is opened, what a step leaves, and what an error leaves."""

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.trainers.toy_runs import metrics, sft_config, supervised_views
from unmask.configs.sft import SFTConfig
from unmask.data.shuffled import Shuffled
from unmask.runs.clock import Clock
from unmask.trainers.learner import Learner
from unmask.trainers.run import Run, open_training
from unmask.trainers.start import prepare


def run_of(config: SFTConfig, resume: bool = False) -> AbstractContextManager[Run]:
    start = prepare(config, resume)
    source = Shuffled(range(len(supervised_views())), config.run.seed)
    return open_training(start, source, Learner(start.llm.model, config.optimizer))


def test_a_step_is_evaluated_logged_recorded_and_saved(tmp_path: Path) -> None:
    config = sft_config(tmp_path, "steps=3", "save_every=1", "eval.problems=2", "eval.every=2")
    with run_of(config) as run:
        assert list(run.steps()) == [1, 2, 3]
        for step in run.steps():
            run.end_step(step, {"loss": 0.5}, Clock(), [{"step": step}])
        model = run.finish()
    assert model == config.run.dir / "model" and model.is_dir()
    lines = metrics(config.run.dir)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert ["eval_accuracy" in line for line in lines] == [False, True, True]
    records = (config.run.dir / "trajectories.jsonl").read_text().splitlines()
    assert [json.loads(record)["step"] for record in records] == [1, 2, 3]
    assert (config.run.dir / "report.html").is_file()


def test_an_error_keeps_the_last_step_and_frees_the_directory(tmp_path: Path) -> None:
    config = sft_config(tmp_path, "steps=3")
    with pytest.raises(RuntimeError), run_of(config) as run:
        run.end_step(1, {"loss": 0.5}, Clock())
        raise RuntimeError("in step 2")
    with run_of(config, resume=True) as run:
        assert list(run.steps()) == [2, 3]


def test_no_directory_is_made_before_the_run_is_entered(tmp_path: Path) -> None:
    config = sft_config(tmp_path)
    run_of(config)
    assert not config.run.dir.exists()
