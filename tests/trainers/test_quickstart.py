"""The parts of the quickstart; the whole takes minutes and is `make quickstart`."""

import json
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.trainers.toy_runs import metrics, sft_config
from unmask import load_model
from unmask.checkpoints.tokenizer import encode
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.engine.llm import LLM
from unmask.evaluation.evaluate import Summary
from unmask.runs.clock import Seconds
from unmask.tasks.build import build_task
from unmask.trainers.quickstart import (
    MODELS,
    SHAPES,
    _config,  # pyright: ignore[reportPrivateUsage]
    _table,  # pyright: ignore[reportPrivateUsage]
    make_base,
    shipped_config,
    train_longer,
    training_cpu_s,
)
from unmask.trainers.sft import train_sft

SUMMARY = Summary(
    accuracy=0.25,
    ci95=(0.2, 0.3),
    pass_at={},
    majority_at={},
    reward=0.25,
    n=512,
    samples=1,
    outcomes={"correct": 128, "wrong": 384},
    tokens_per_denoising_step=1.5,
    tokens_per_denoising_step_ci95=(1.4, 1.6),
    response_tokens=5.0,
    truncated=0.0,
    lengths=(),
)


@pytest.mark.parametrize("kind", ["sft", "rl"])
@pytest.mark.parametrize("task", SHAPES)
def test_every_task_has_its_configs(kind: str, task: str) -> None:
    assert shipped_config(kind, task).is_file()


@pytest.mark.parametrize("task", SHAPES)
def test_the_stages_hand_over_below_one_directory(task: str, tmp_path: Path) -> None:
    sft = _config(SFTConfig, "sft", task, tmp_path, 3)
    rl = _config(RLConfig, "rl", task, tmp_path, 3)
    assert (sft.run.dir, rl.run.dir) == (tmp_path / "sft", tmp_path / "rl")
    assert (sft.model.path, rl.model.path) == (
        str(tmp_path / "base"),
        str(tmp_path / "sft" / "model"),
    )
    assert sft.run.seed == rl.run.seed == 3
    assert sft.eval.split == rl.eval.split == "validation"
    assert sft.task == rl.task


@pytest.mark.parametrize("task", SHAPES)
def test_the_base_model_loads_and_reads_its_task(task: str, tmp_path: Path) -> None:
    config = _config(SFTConfig, "sft", task, tmp_path, 0)
    make_base(config, tmp_path / "base", seed=0)
    llm = LLM(tmp_path / "base")
    spec = llm.model.spec
    assert spec.mask_id is not None
    assert spec.num_drawable == spec.vocab_size
    assert spec.eos_ids == (llm.require_tokenizer().eos_token_id,)
    assert encode("01234", llm.require_tokenizer())


def test_the_seed_makes_the_base_model(tmp_path: Path) -> None:
    config = _config(SFTConfig, "sft", "chain_sum", tmp_path, 0)
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        make_base(config, tmp_path / name, seed)
    a, b, c = (load_model(tmp_path / name).head.projection.weight for name in "abc")
    assert a.equal(b)
    assert not a.equal(c)


def test_the_table_compares_the_models() -> None:
    stages = {"sft": Seconds(2, 20), "rl": Seconds(3, 30), "control": Seconds(4, 40)}
    console = Console(width=120, record=True, file=StringIO())
    console.print(_table(dict.fromkeys(stages, SUMMARY), stages))
    text = console.export_text()
    for word in (
        "512 problems",
        "stopped early",
        "SFT",
        "TraceRL",
        "25.0%",
        "20.0% .. 30.0%",
        "1.50",
        "20",
        "30",
        "40",
    ):
        assert word in text


def test_the_summary_has_the_keys_that_are_promised() -> None:
    promised = {
        "accuracy",
        "ci95",
        "n",
        "tokens_per_denoising_step",
        "tokens_per_denoising_step_ci95",
    }
    assert promised <= set(SUMMARY.to_dict())


def test_the_control_takes_as_many_more_steps_as_rl_had_time_for(tmp_path: Path) -> None:
    evaluations = ("eval.problems=4", "eval.every=1")
    sft = sft_config(tmp_path, "steps=3", "optimizer.schedule=constant", *evaluations)
    train_sft(sft)
    (tmp_path / "rl").mkdir()
    seconds = training_cpu_s(sft.run.dir)
    line = {"step": 1, "rollout_cpu_s": seconds / 3, "update_cpu_s": seconds / 3, "eval_cpu_s": 99}
    (tmp_path / "rl" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    train_longer(sft, tmp_path / "rl", tmp_path / "control")
    assert len(metrics(tmp_path / "control")) == 3 + 2
    assert metrics(tmp_path / "control")[:3] == metrics(sft.run.dir)
    assert (tmp_path / "control" / "model").is_dir()


def test_the_control_is_measured_at_its_best_evaluation(tmp_path: Path) -> None:
    evaluations = ("eval.problems=4", "eval.every=1", "save_every=1", "run.keep_last=9")
    sft = sft_config(tmp_path, "steps=3", *evaluations)
    train_sft(sft)
    (tmp_path / "rl").mkdir()
    line = {"step": 1, "update_cpu_s": training_cpu_s(sft.run.dir)}
    (tmp_path / "rl" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    control = tmp_path / "control"
    train_longer(sft, tmp_path / "rl", control)
    rewards = [line["eval_reward"] for line in metrics(control)]
    best = 1 + rewards.index(max(rewards))
    kept = load_model(control / "checkpoints" / f"step-{best:06d}" / "model")
    chosen = load_model(control / MODELS["control"][1])
    assert all(a.equal(b) for a, b in zip(kept.parameters(), chosen.parameters(), strict=True))


def test_demonstrations_are_few_and_prompts_many(tmp_path: Path) -> None:
    sft = _config(SFTConfig, "sft", "chain_sum", tmp_path, 0)
    assert sft.task is not None and sft.data.examples is not None
    with closing(build_task(sft.task)) as built:
        prompts = built.prompts("train")
    assert sft.data.examples < 500 < 5 * sft.data.examples < len(prompts)
