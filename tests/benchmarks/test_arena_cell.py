"""A run of the arena is a run of `train_rl`, and its measurements are those of plain loops."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.benchmarks.loading import load
from unmask.configs.rl import RLConfig
from unmask.engine.build import build_llm
from unmask.runs.read import read_lines
from unmask.tasks.build import build_task
from unmask.trainers.rl import train_rl
from unmask.types import Score

cell, starts, specs, arena = map(load, ("arena_cell", "arena_start", "arena_spec", "arena"))
SPEC = specs.read_spec(arena.SPECS / "smoke.toml")
SAME = ("loss", "accuracy", "gradient_norm", "packed_tokens", "updates", "groups_kept")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the SFT model of seed 0."""
    place = tmp_path_factory.mktemp("arena")
    starts.make_start(SPEC, "chain_sum", "default", 0, place)
    return place


def config_of(method: str, work: Path) -> RLConfig:
    unit = specs.Unit("cell", "chain_sum", method, 0)
    (config,) = starts.rl_configs(SPEC, unit, 1e-3, work)
    return config


@pytest.mark.parametrize("method", ["tracerl", "wd1_plus"])
def test_the_steps_are_those_of_the_trainer(method: str, work: Path, tmp_path: Path) -> None:
    config = config_of(method, work)
    llm, task = build_llm(config.model, config.engine), build_task(config.task)
    own = list(islice(cell.rl_steps(config, llm, task, cell.ForwardedTokens()), 2))
    task.close()
    run = config.run.model_copy(update={"dir": tmp_path / "run"})
    evaluation = config.eval.model_copy(update={"problems": 0})
    train_rl(config.model_copy(update={"steps": 2, "run": run, "eval": evaluation}))
    lines = list(read_lines(tmp_path / "run" / "metrics.jsonl"))
    for mine, line in zip(own, lines, strict=True):
        assert {name: mine[name] for name in SAME} == {name: line[name] for name in SAME}


def test_forwarded_tokens_of_the_learner_are_its_packed_tokens(work: Path) -> None:
    """TraceRL on its sampler's path scores nothing again, so the update's passes are all there are."""
    config, tokens = config_of("tracerl", work), cell.ForwardedTokens()
    llm, task = build_llm(config.model, config.engine), build_task(config.task)
    hook = cell.register_module_forward_pre_hook(tokens)
    (metrics,) = islice(cell.rl_steps(config, llm, task, tokens), 1)
    hook.remove()
    task.close()
    assert tokens.rows["learner"] == metrics["packed_tokens"]
    assert tokens.rows["sampler"] >= metrics["response_tokens"] * 16, (
        "each token is fed at least once"
    )


def test_noise_is_the_trace_of_the_covariance_and_the_mean_of_products() -> None:
    gradients = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)).double()
    found = cell.noise_of(gradients)
    covariance = torch.cov(gradients.T)
    pairs = [gradients[a] @ gradients[b] for a in range(4) for b in range(4) if a != b]
    assert found["variance"] == pytest.approx(float(covariance.trace()))
    assert found["squared_mean"] == pytest.approx(float(sum(pairs) / len(pairs)))


def test_measuring_the_gradient_leaves_the_weights_as_they_are(work: Path) -> None:
    config = config_of("tracerl", work)
    llm, task = build_llm(config.model, config.engine), build_task(config.task)
    task.close()
    # Every other response is right: the model solves nothing.
    graded = replace(task, grade=lambda items: [Score(float(i % 2)) for i in range(len(items))])
    before = [weight.clone() for weight in llm.model.parameters()]
    found = cell.gradient_noise(config, llm, graded, 2)
    assert found["variance"] > 0
    assert all(torch.equal(a, b) for a, b in zip(before, llm.model.parameters(), strict=True))


def test_a_run_goes_on_to_the_later_budget(work: Path) -> None:
    budgets = cell.Budgets(rollouts=16, tokens=1, every=1, cpu_limit_s=60)
    config = config_of("tracerl", work)
    short = cell.run_cell([config], budgets)
    assert [point["rollouts"] for point in short["points"]] == [0, 16]
    both = short["points"][-1]["sampler_tokens"] + short["points"][-1]["learner_tokens"]
    later = cell.Budgets(rollouts=16, tokens=both + 1, every=1, cpu_limit_s=60)
    long = cell.run_cell([config], later)
    assert [point["rollouts"] for point in long["points"]] == [0, 16, 32]
    assert long["points"][1]["accuracy"] == short["points"][1]["accuracy"]
    assert long["ended"] == "budgets" and long["failure"] is None


def test_a_file_of_another_spec_is_refused(work: Path) -> None:
    unit = specs.Unit("cell", "chain_sum", "tracerl", 0, 1e-3)
    path = work / unit.file
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"settings": "other", "rate": 1e-3}')
    with pytest.raises(ValueError, match="made under another spec"):
        arena.run_unit(SPEC, work, unit)
