"""`unmask sft` from config to checkpoint, on a random model and on six demonstrations."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toy import SPEC, toy_checkpoint, toy_model
from tests.trainers.toy_runs import metrics, sft_config, supervised_views
from unmask import load_model
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft_data import SFTDataConfig
from unmask.configs.task import ReasoningGymConfig
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.views import Views
from unmask.engine.llm import LLM
from unmask.sampling_params import SamplingParams
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective
from unmask.trainers.sft import (
    check_fit,
    fewest_positions,
    noisy_views,
    operations_per_token,
    throughput,
    train_sft,
    weighted_views,
)
from unmask.types import Message

# Noise levels with which the ELBO is a bound.
FILLED = ("views.low=0.001", "views.high=1")
GREEDY = SamplingParams(temperature=0, max_tokens=8)


def test_a_run_leaves_every_file_and_a_model_that_loads(tmp_path: Path) -> None:
    config = sft_config(tmp_path, "steps=3", "eval.problems=4", "eval.every=2")
    model = train_sft(config)
    run = tmp_path / "run"
    assert model == run / "model"
    assert json.loads((run / "config.json").read_text())["steps"] == 3
    assert json.loads((run / "environment.json").read_text())["threads"] == 1
    assert load_model(model).spec == load_model(tmp_path / "checkpoint").spec
    assert LLM(model).tokenizer is not None
    lines = metrics(run)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert ["eval_accuracy" in line for line in lines] == [False, True, True]
    assert {"loss", "nll", "entropy", "gradient_norm", "learning_rate"} <= set(lines[0])


def test_it_learns_its_demonstrations(tmp_path: Path) -> None:
    words = ["steps=60", "optimizer.lr=1e-2", "views.count=2", "data.batch_size=6"]
    model = train_sft(sft_config(tmp_path, *words))
    lines = metrics(tmp_path / "run")
    assert lines[-1]["nll"] < 0.5 < 2 < lines[0]["nll"]
    assert LLM(model).generate(["1+2="], GREEDY)[0].text == "7;77"


def test_with_a_template_it_answers_and_stops_as_it_was_trained(tmp_path: Path) -> None:
    """The template, which `chat` applies as well, ends a turn with `;`, where this model does not stop."""
    config = sft_config(tmp_path, "steps=60", "optimizer.lr=1e-2", "views.count=2")
    template = (
        "{% for m in messages %}{{ 'a' if m.role == 'user' else 'b' }}{{ m.content }};{% endfor %}"
        "{% if add_generation_prompt %}b{% endif %}"
    )
    (Path(config.model.path) / "chat_template.jinja").write_text(template)
    turns = [{"role": "user", "content": "1+2="}, {"role": "assistant", "content": "3"}]
    turns += [{"role": "user", "content": "4+4="}, {"role": "assistant", "content": "8"}]
    data = tmp_path / "chat.jsonl"
    data.write_text(json.dumps({"messages": turns}))
    model = train_sft(config.model_copy(update={"data": SFTDataConfig(path=data, batch_size=4)}))
    messages = [Message(turn["role"], turn["content"]) for turn in turns]  # pyright: ignore[reportArgumentType]
    for end, answer in ((1, "3;"), (3, "8;")):
        (response,) = LLM(model).chat([messages[:end]], GREEDY)
        assert (response.text, response.finish) == (answer, "stop")


@pytest.mark.parametrize(
    "words",
    [
        ["views.level=token"],
        ["loss.weight=elbo", *FILLED],
        ["views.level=response"],
        ["views.train_block=8"],
        ["views.post_num=2"],
        ["views.kind=block", "views.level=token"],
        ["views.kind=semi_ar", "loss.weight=elbo", *FILLED],
        ["views.kind=left_to_right", "views.post_num=1"],
        ["views.low=1", "views.high=1"],
        ["loss.reduction=view", "loss.weight=elbo", *FILLED],
        ["loss.reduction=sequence", "views.count=2"],
        ["loss.reduction=constant"],
    ],
)
def test_every_noise_and_reduction_runs(words: list[str], tmp_path: Path) -> None:
    train_sft(sft_config(tmp_path, *words))
    assert all(line["loss"] > 0 for line in metrics(tmp_path / "run"))


def test_the_noise_depends_on_its_seed_and_on_nothing_else(tmp_path: Path) -> None:
    config = sft_config(tmp_path, "views.count=4")

    def hidden(*seeds: int, step: int = 1) -> list[list[bool]]:
        batch = [Demonstration((2, 3), tuple(range(4, 16)))] * len(seeds)
        views = noisy_views(batch, seeds, config, SPEC, step, 0)
        return [v.hidden.flatten().tolist() for v in views]

    first = hidden(5, 6, 7)
    assert len({tuple(places) for places in first}) == 3
    assert hidden(6) == hidden(6, step=9) == first[1:2]


def test_noise_is_fresh_in_every_pass_and_follows_seed_pass_and_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[tuple[int, ...], int]] = []

    def watched(batch: Any, seeds: Sequence[int], *rest: Any) -> list[Views]:
        drawn.extend(zip([d.response_ids for d in batch], seeds, strict=True))
        return noisy_views(batch, seeds, *rest)

    monkeypatch.setattr("unmask.trainers.sft.noisy_views", watched)

    def seeds_of(run: str, *words: str) -> dict[tuple[int, ...], list[int]]:
        drawn.clear()
        train_sft(sft_config(tmp_path, *words, run=run))
        found: dict[tuple[int, ...], list[int]] = {}
        for ids, seed in drawn:
            found.setdefault(ids, []).append(seed)
        return found

    pairs = seeds_of("pairs", "data.batch_size=2", "steps=6")
    assert len({seed for seeds in pairs.values() for seed in seeds}) == len(drawn)
    assert pairs == seeds_of("singles", "data.batch_size=1", "steps=12")


@pytest.mark.parametrize(("word", "fewest"), [("null", 0), ("3", 3), ("9", 9), ("longest", 5)])
def test_canvases_have_the_slots_asked_for_or_those_of_the_longest_response(
    word: str, fewest: int, tmp_path: Path
) -> None:
    config = sft_config(tmp_path, *([] if word == "null" else [f"data.canvas_tokens={word}"]))
    found = [Demonstration((2,) * 9, (4,) * size) for size in (1, 5, 2)]
    assert fewest_positions(config, found) == fewest


@pytest.mark.parametrize("every", [0, 1, 2])
def test_a_run_that_breaks_keeps_its_last_complete_step(every: int, tmp_path: Path) -> None:
    words = [f"save_every={every}", "optimizer.lr=4e9", "optimizer.clip_norm=none"]
    with pytest.raises(
        ValueError, match=r"gradient of update 2 .* the weights are untouched"
    ) as it:
        train_sft(sft_config(tmp_path, *words))
    assert it.value.__notes__ == ["the state of step 1 is kept: go on by --resume"]
    run = tmp_path / "run"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000001"]
    assert len(metrics(run)) == 1


def test_the_demonstrations_of_a_task_are_imitated(tmp_path: Path) -> None:
    sums = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    task = ReasoningGymConfig(name="chain_sum", size=60, compact=True, args=sums)
    config = sft_config(tmp_path).model_copy(update={"task": task, "data": SFTDataConfig()})
    train_sft(config)
    assert len(metrics(tmp_path / "run")) == 2


def test_a_file_of_demonstrations_needs_no_task(tmp_path: Path) -> None:
    train_sft(sft_config(tmp_path).model_copy(update={"task": None}))
    assert len(metrics(tmp_path / "run")) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.path=none"], "'math' has no demonstrations: give data.path"),
        (["data.path=absent.json"], "data.path = absent.json: no such file"),
    ],
)
def test_no_demonstrations_are_refused(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        train_sft(sft_config(tmp_path, *words))
    assert not (tmp_path / "run").exists()


def test_trace_needs_step_maps(tmp_path: Path) -> None:
    config = sft_config(tmp_path, "views.kind=trace")
    found = [Demonstration((2,), (4,), (1,)), Demonstration((2,), (4,))]
    with pytest.raises(ValueError, match="needs a step_map of every demonstration, and 1 of 2"):
        check_fit(found, config, SPEC)


def test_a_demonstration_too_long_for_the_model_is_refused(tmp_path: Path) -> None:
    sft_config(tmp_path)
    record = {"prompt": "1" * 60, "response": "2" * 68}  # and end-of-text
    (tmp_path / "demonstrations.json").write_text(json.dumps([record]))
    with pytest.raises(ValueError, match="has 129 tokens, but the model has 128 positions"):
        train_sft(sft_config(tmp_path))


def test_a_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    sft_config(tmp_path)
    bare = toy_checkpoint(tmp_path / "bare")
    for file in bare.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match="has no tokenizer files"):
        train_sft(sft_config(tmp_path, f"model.path={bare}"))


def test_the_elbo_is_a_mean_over_all_response_tokens_the_plain_loss_over_hidden_ones(
    tmp_path: Path,
) -> None:
    views = supervised_views()
    hidden = sum(int(v.target.sum()) for v in views)
    tokens = sum(v.target.shape[0] * 10 for v in views)
    for weight, expected in (("one", hidden), ("elbo", tokens)):
        config = sft_config(tmp_path, f"loss.weight={weight}", *FILLED)
        weighted, denominator = weighted_views(views, config, 10)
        assert denominator == expected <= tokens
        # The reduction multiplies by nothing, and leaves weights in fp32.
        pairs = zip(weighted, views, strict=True)
        assert all(torch.equal(new.weight, old.weight) for new, old in pairs if weight == "elbo")
        assert all(v.weight.dtype == torch.float32 for v in weighted)


@pytest.mark.parametrize("reduction", ["tokens", "sequence", "view", "constant"])
def test_a_batch_in_which_nothing_is_hidden_has_loss_zero(reduction: str, tmp_path: Path) -> None:
    views = [replace(v, target=torch.zeros_like(v.target)) for v in supervised_views()]
    config = sft_config(tmp_path, f"loss.reduction={reduction}")
    weighted, denominator = weighted_views(views, config, 10)
    assert denominator == 1
    assert all(v.weight.isfinite().all() for v in weighted)
    learner = Learner(toy_model(), OptimizerConfig())
    assert learner.update(weighted, build_supervised_objective(config), denominator).loss == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss.weight=elbo"], r"views\.low = 0\.1, views\.high = 0\.9: .* bounds the likelihood"),
        (["eval.every=2", "task=none"], r"eval\.every = 2: there is no \[task\]"),
        (
            ["views.kind=coupled"],
            r'kind = "coupled" trains on rollouts, which `unmask rl` does; .* give views\.kind = block or ',
        ),
        (["views.kind=left_to_right", "views.train_block=4"], "trains in blocks of one token"),
        (["views.kind=left_to_right", "data.canvas_tokens=9"], r"canvas_tokens = 9 has no effect"),
        (["views.shrink=2"], r"unknown key views\.shrink"),
        (["noise.views=2"], r"unknown key noise .*here that is \[views\]"),
    ],
)
def test_what_the_config_alone_decides_is_refused_when_it_is_read(
    words: list[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        sft_config(tmp_path, *words)


def test_throughput_counts_useful_tokens_once_and_the_peak_if_given(tmp_path: Path) -> None:
    config = sft_config(tmp_path, "peak_tflops=0.5")
    batch = [Demonstration((2,) * 5, (3,) * 7), Demonstration((2,), (3,) * 3)]
    found = throughput(batch, 40.0, 2.0, 10**9, config)
    assert found == {
        "packed_tokens_per_s": 20.0,
        "useful_tokens_per_s": 8.0,
        "mfu": 1e9 * 20 / 0.5e12,
    }
    assert "mfu" not in throughput(batch, 40.0, 2.0, 10**9, sft_config(tmp_path))


def test_operations_of_a_token_are_six_per_weight_and_four_if_none_is_trained() -> None:
    model = toy_model()
    weights = sum(p.numel() for p in model.parameters()) - model.backbone.embedding.weight.numel()
    assert operations_per_token(model) == 6 * weights
    model.requires_grad_(False)
    assert operations_per_token(model) == 4 * weights
