"""Runs that train adapters: only those change, checkpoints hold only those, and law 6 holds."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.toy import toy_model
from tests.trainers.breaking import REWARD, VARIABLE, start_counting
from tests.trainers.toy_runs import metrics, policy_views, rl_config, sft_config, supervised_views
from unmask import load_model
from unmask.checkpoints.lora_files import load_adapter
from unmask.configs.engine import EngineConfig
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import Demonstration
from unmask.engine.build import build_llm
from unmask.evaluation.evaluate import evaluate_model
from unmask.models.lora import LoRAParams, adapters, add_lora, merge_lora
from unmask.models.transformer import Model
from unmask.runs.signals import Stopped
from unmask.sampling_params import SamplingParams
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective
from unmask.trainers.reference import build_reference
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import check_fit, noisy_views, train_sft, weighted_views
from unmask.trainers.start import starting_llm

LORA = ["lora.rank=3", "lora.alpha=6", "optimizer.lr=1e-2"]
SHARED = [*LORA, "save_every=2", "eval.problems=4", "eval.every=2", REWARD]
STEPS = 4
Run = Callable[..., Path]

LIKELIHOOD = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))


def short_rl(place: Path, name: str, *words: str) -> Path:
    """Train by RL in two minibatches; 12 rewards a step, 4 an evaluation."""
    settings = [*SHARED, f"steps={STEPS}", "minibatches=2", "loss.kl=0.1", *words]
    return train_rl(rl_config(place, *settings, run=name), resume=True).parent


def short_sft(place: Path, name: str, *words: str) -> Path:
    """Train by SFT with fresh noise every step; 4 rewards an evaluation."""
    settings = [*SHARED, f"steps={STEPS}", "views.count=2", *words]
    return train_sft(sft_config(place, *settings, run=name), resume=True).parent


def left_behind(run: Path) -> dict[str, Any]:
    """Return everything of a finished run that must not depend on how often it was interrupted."""
    last = max((run / "checkpoints").iterdir())
    files = [
        *("model/model.safetensors", "best/model.safetensors", "adapter/adapter_config.json"),
        *("adapter/adapter_model.safetensors", f"checkpoints/{last.name}/optimizer.safetensors"),
        f"checkpoints/{last.name}/adapter/adapter_model.safetensors",
    ]
    bits = {file: (run / file).read_bytes() for file in files}
    return {**bits, "metrics": metrics(run), "state": (last / "state.json").read_text()}


def weights(model: Model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("train", "dtype", "hows"),
    [
        (short_rl, "float32", ["raise:7", "SIGTERM:30", "SIGINT:20"]),
        (short_rl, "bfloat16", ["SIGINT:20", "raise:39"]),
        (short_sft, "bfloat16", ["raise:2", "SIGINT:6"]),
    ],
)
def test_law_6_an_interrupted_run_is_the_run_that_is_not(
    train: Run, dtype: str, hows: list[str], tmp_path: Path
) -> None:
    word = f"model.dtype={dtype}"
    for how in hows:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, how)
            start_counting()
            with pytest.raises((ValueError, Stopped)):
                train(tmp_path, "parts", word)
    whole = left_behind(train(tmp_path, "whole", word))
    assert left_behind(train(tmp_path, "parts", word)) == whole


@pytest.mark.parametrize("train", [short_rl, short_sft])
def test_a_run_leaves_adapters_and_whole_models(train: Run, tmp_path: Path) -> None:
    run = train(tmp_path, "run")
    base = load_model(tmp_path / "checkpoint")
    last = max((run / "checkpoints").iterdir())
    names = {"adapter", "optimizer.safetensors", "state.json", "manifest.json"}
    assert {p.name for p in last.iterdir()} == names
    held = load_file(last / "optimizer.safetensors")
    assert held and all(".lora_" in name for name in held)
    for place in (run / "adapter", last / "adapter"):
        model = load_model(tmp_path / "checkpoint")
        load_adapter(model, place)
        assert torch.equal(weights(merge_lora(model)), weights(load_model(run / "model")))
        config = json.loads((place / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == str(tmp_path / "checkpoint")
        assert (config["r"], config["lora_alpha"]) == (3, 6)
    trained = dict(load_model(run / "model").named_parameters())
    for name, weight in base.named_parameters():
        is_projection = "layers" in name and "norm" not in name
        assert torch.equal(weight, trained[name]) != is_projection
    files = {p.name for p in (tmp_path / "checkpoint").iterdir()} | {"manifest.json"}
    assert {p.name for p in (run / "model").iterdir()} == files
    assert {p.name for p in (run / "best").iterdir()} == files


def test_targets_are_those_of_the_config(tmp_path: Path) -> None:
    run = train_sft(sft_config(tmp_path, *LORA, 'lora.targets=["attention.q","ffn"]')).parent
    meant = json.loads((run / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert meant == ["down_proj", "gate_proj", "q_proj", "up_proj"]


def test_a_target_that_is_none_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    config = sft_config(tmp_path, 'lora.targets=["q_proj"]')
    with pytest.raises(ValueError, match=r"^lora\.targets: 'q_proj' is not a module"):
        train_sft(config)
    assert not config.run.dir.exists()


def test_the_section_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    train_sft(sft_config(tmp_path, *LORA))
    for words in (["optimizer.lr=1e-2"], [*LORA, "lora.rank=4"]):
        with pytest.raises(ValueError, match=r"^lora[.\w]* = .*--resume may change"):
            train_sft(sft_config(tmp_path, *words), resume=True)


def test_fresh_adapters_depend_on_the_runs_seed_alone(tmp_path: Path) -> None:
    drawn = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        words = [*LORA, "optimizer.lr=1e-30", f"run.seed={seed}"]
        run = train_sft(sft_config(tmp_path, *words, run=name)).parent
        held = load_file(run / "adapter" / "adapter_model.safetensors")
        drawn.append(torch.cat([held[n].flatten() for n in sorted(held) if "lora_A" in n]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_learner_trains_the_adapters_and_nothing_else(dtype: torch.dtype) -> None:
    model = toy_model(dtype=dtype)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    add_lora(model, LoRAParams(4, 8))
    learner = Learner(model, OptimizerConfig(lr=1e-2, weight_decay=0.1))
    views = supervised_views()
    losses = [learner.update(views, LIKELIHOOD, 30.0).loss for _ in range(8)]
    assert losses[-1] < 0.9 * losses[0]
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], weight) for name, weight in before.items())
    assert all(adapter.lora_b.any() for adapter in adapters(model).values())
    assert {name.partition("/")[2] for name in learner.state()} == now.keys() - before.keys()


@pytest.mark.parametrize(
    ("kind", "is_full"),
    [
        ("block", False),
        *product(("random", "semi_ar", "trace", "left_to_right"), (False, True)),
    ],
)
def test_every_kind_of_view_trains_adapters_alone_and_merges_to_their_model(
    kind: str, is_full: bool
) -> None:
    changes: dict[str, Any] = {"attention": "full", "block_size": None} if is_full else {}
    model = toy_model(is_shifted=kind == "left_to_right", **changes)
    views: dict[str, Any] = {"kind": kind}
    if kind == "semi_ar" and is_full:
        views["train_block"] = 4
    config = SFTConfig.model_validate({"model": {"path": "-"}, "views": views})
    demonstrations = [
        Demonstration((2, 3, 4 + n), tuple(range(2, 12 + n)), tuple(i % 4 for i in range(10 + n)))
        for n in range(3)
    ]
    check_fit(demonstrations, config, model.spec)
    noisy = noisy_views(demonstrations, range(3), config, model.spec, 1, 0)
    batch, total = weighted_views(noisy, config, 12)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    add_lora(model, LoRAParams(4, 8))
    learner = Learner(model, OptimizerConfig(lr=1e-2))
    started = learner.score(batch)
    learner.update(batch, build_supervised_objective(config), total)
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], weight) for name, weight in before.items())
    assert all(adapter.lora_b.any() for adapter in adapters(model).values())
    adapted = learner.score(batch)
    merged = Learner(merge_lora(model), OptimizerConfig()).score(batch)
    for first, found, expected in zip(started, merged, adapted, strict=True):
        assert not torch.equal(first, expected)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_reference_of_adapters_is_the_policy_without_them(tmp_path: Path) -> None:
    config = rl_config(tmp_path, *LORA, "loss.kl=0.1", "loss.kl_to=reference")
    model = starting_llm(config).model
    views = policy_views(model)
    before = Learner(load_model(tmp_path / "checkpoint"), config.optimizer).score(views)
    learner, reference = Learner(model, config.optimizer), build_reference(config, model)
    assert reference is not None and reference.model is model
    learner.update(views, LIKELIHOOD, 30.0)
    for started, held, now in zip(
        before, reference.score(views), learner.score(views), strict=True
    ):
        assert torch.equal(held, started)
        assert not torch.equal(held, now)
    learner.update(views, LIKELIHOOD, 30.0)  # still trained


def test_a_penalty_towards_the_start_holds_the_adapters_back(tmp_path: Path) -> None:
    moved = []
    for kl in (0.0, 50.0):
        words = [*LORA, "steps=4", f"loss.kl={kl}", "loss.kl_to=reference"]
        run = train_rl(rl_config(tmp_path, *words, run=f"kl{kl}")).parent
        trained = weights(load_model(run / "model")) - weights(load_model(tmp_path / "checkpoint"))
        moved.append(float(trained.norm()))
    assert 0 < moved[1] < moved[0]


def test_adapters_answer_and_are_measured_as_the_merged_model(tmp_path: Path) -> None:
    run = short_sft(tmp_path, "run")
    config = sft_config(tmp_path)
    laid = config.model.model_copy(update={"adapter": str(run / "adapter")})
    merged = config.model.model_copy(update={"path": str(run / "model")})
    sampling = SamplingParams(temperature=0, max_tokens=16)
    texts = [
        [
            result.text
            for result in build_llm(model, EngineConfig()).generate(["1+2=", "7="], sampling)
        ]
        for model in (laid, merged, config.model)
    ]
    assert texts[0] == texts[1] != texts[2]
    words = [f"model.path={config.model.path}", f"model.adapter={run / 'adapter'}", "split=train"]
    words += [f"run.dir={tmp_path / 'eval'}", "task.kind=json", "task.template={question}", REWARD]
    words += [f"task.train={tmp_path / 'questions.json'}", "sampling.max_tokens=8"]
    (summary,) = evaluate_model(load_config(EvalConfig, [], words)[0]).summaries.values()
    assert summary.n == 6
