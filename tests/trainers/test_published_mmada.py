"""Rows, losses, values and gradients of dLLM-RL's trainers of MMaDA with images.

Departures that the rows show, each named where it is: a tail beyond the trace is shown in rows of a reward per
response (here and in rows of the value model it is a last step), rows are filled with end-of-text on the left and
read it (here there is no filling: it is part of the prompt below), log-probabilities are over every id (`drawable`),
and the KL of the trainer without a value model is summed over a row where its surrogate is averaged.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.vision.mmada import CASES, FOLDER, IDS
from tests.trainers.published_rows import (
    at_targets,
    returns_and_advantages,
    split,
    traced,
    updated,
    with_old,
    written,
)
from tests.trainers.toy_methods import row
from unmask.checkpoints.checkpoint import load_model, load_value_model
from unmask.checkpoints.tokenizer import encode, load_tokenizer
from unmask.configs.methods.views.random import RandomViews
from unmask.configs.sft import SFTConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.methods.random import of_demonstrations
from unmask.diffusion.views import Canvas, Views
from unmask.engine.scoring import score_views
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel
from unmask.models.vision.mmada_prompt import understanding_prompt
from unmask.objectives.policy import kl_penalty
from unmask.objectives.value import token_returns_and_advantages
from unmask.trainers.losses import (
    build_policy_objective,
    build_supervised_objective,
    build_value_objective,
)
from unmask.types import Prompt, Trajectory

ITEMS: list[dict[str, Any]] = CASES["rl_data"]
REWARDS = [item["reward"] for item in ITEMS]
ROWS = {case["key"]: case for case in CASES["rl_rows"]}
OF_LOSSES = ROWS[CASES["loss_rows"]]
LOSS = {"reduction": "view"}
END_OF_HEADER: int = CASES["special_ids"]["<|end_header_id|>"]


@cache
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


def golden_model() -> Model:
    """Return a model whose log-probabilities are over every id, as in the published code."""
    model = load_model(FOLDER)
    model.head.drawable = torch.ones_like(model.head.drawable)
    return model


def value_model() -> ValueModel:
    model = load_value_model(FOLDER)
    with torch.no_grad():
        model.value_head.weight.copy_(recorded()["value_head_weight"])
    return model


@cache
def trajectories() -> list[Trajectory]:
    """Return the recorded responses; end-of-text fills their prompts on the left to one length of rows."""
    tokenizer, found = load_tokenizer(FOLDER), list[Trajectory]()
    length = recorded()["rows_s1_p1_noisy"].shape[1]
    for item in ITEMS:
        codes = (recorded()[f"image_ids_{item['image']}"] - IDS.image_offset).tolist()
        token_ids = understanding_prompt(codes, encode(item["prompt"], tokenizer), IDS)
        ids = encode(item["response"], tokenizer)
        num_filled = length - len(token_ids) - len(ids)
        prompt = Prompt("mmada", len(found), (), (IDS.end_of_text,) * num_filled + (*token_ids,))
        num_response = len([i for i in ids if i != IDS.end_of_text])
        found.append(written(prompt, ids, item["step_map"], num_response))
    return found


def value_views(case: dict[str, Any] = OF_LOSSES) -> list[Views]:
    return traced(trajectories(), REWARDS, case)


def scalar_views() -> list[Views]:
    """Return the recorded rows of a reward per response, whose tail beyond the trace is never hidden."""
    key, found = OF_LOSSES["key"], value_views()
    # The last response is longer than its trace: its last view is of the tail alone.
    found[-1] = replace(found[-1], target=found[-1].target[:-1], weight=found[-1].weight[:-1])
    hidden = split(recorded()[f"{key}_noisy"] == IDS.mask, found)
    return [replace(v, hidden=h) for v, h in zip(found, hidden, strict=True)]


@pytest.mark.parametrize("key", ROWS)
def test_rows_of_the_value_model(key: str) -> None:
    views, rows = value_views(ROWS[key]), recorded()
    hidden = split(rows[f"{key}_value_noisy"] == IDS.mask, views)
    target = split(rows[f"{key}_value_pmask"].bool(), views)
    of_item = rows[f"{key}_value_seq_ids"].split([len(v.target) for v in views])
    for number, (v, h, t) in enumerate(zip(views, hidden, target, strict=True)):
        assert torch.equal(v.hidden, h) and torch.equal(v.target, t)
        assert of_item[number].unique().tolist() == [number]
    sequences = torch.cat(
        [torch.cat((v.prompt_ids, v.canvas_ids)).expand(len(v.target), -1) for v in views]
    )
    assert torch.equal(sequences, rows[f"{key}_value_labels"])


@pytest.mark.parametrize("key", ROWS)
def test_rows_of_a_reward_per_response_show_the_tail_beyond_the_trace(key: str) -> None:
    views, rows = value_views(ROWS[key]), recorded()
    tail = 3  # of the last response, whose trace is as much shorter
    pairs = zip(trajectories(), ITEMS, strict=True)
    assert [len(t.canvas_ids) - len(item["step_map"]) for t, item in pairs] == [-2, 0, tail]
    last = views[-1]
    views[-1] = replace(last, target=last.target[:-1], hidden=last.hidden[:-1])
    hidden = split(rows[f"{key}_noisy"] == IDS.mask, views)
    target = split(rows[f"{key}_pmask"].bool(), views)
    for number, (v, h, t) in enumerate(zip(views, hidden, target, strict=True)):
        same = v.hidden.shape[1] - (tail if number == 2 else 0)
        assert torch.equal(v.hidden[:, :same], h[:, :same]) and torch.equal(v.target, t)
    assert views[-1].hidden[:, -tail:].all() and not hidden[-1][:, -tail:].any()
    assert rows[f"{key}_reward"].tolist() == pytest.approx(
        [reward for reward, v in zip(REWARDS, views, strict=True) for _ in v.target]
    )


def logprobs(model: Any, views: Sequence[Views]) -> Tensor:
    """Return a number of every target, in the order of the rows."""
    packs = pack_views(views, conventions_of(model), 2000)
    (tables,) = score_views(model, views, packs, [lambda s: getattr(s, "logprobs", s)])
    return at_targets(tables, views)


def recorded_at(name: str, views: Sequence[Views]) -> Tensor:
    """Return a recorded tensor `(all views, L)` at the targets, in the order of the rows."""
    return at_targets(split(recorded()[name], views), views)


@pytest.mark.parametrize(
    ("name", "views"), [("loss_logp_new", scalar_views), ("policy_adv_logp_new", value_views)]
)
def test_log_probabilities(name: str, views: Any) -> None:
    found = logprobs(golden_model(), views())
    assert (found - recorded_at(name, views())).abs().max() < 2e-4


def assert_recorded(update: Any, name: str) -> None:
    """Compare a loss, and the norm of its gradient."""
    assert update.loss == pytest.approx(CASES["losses"][name], abs=1e-4)
    expected = float(recorded()[f"grad_norm_{name}"])
    assert update.values["gradient_norm"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("name", "estimator"), [("nokl", None), ("k1", "k1"), ("k3", "k3")])
def test_policy_of_a_reward_per_response(name: str, estimator: Any) -> None:
    """The published KL is summed over a row: weighted by its targets, against our average."""
    views = with_old(scalar_views(), recorded()["loss_logp_old"])
    surrogate = build_policy_objective(row(loss=LOSS))

    def objective(scores: Any, pack: Any) -> Any:
        output = surrogate(scores, pack)
        if estimator is None:
            return output
        kl = kl_penalty(scores.logprobs, pack.old_logprobs.float(), estimator) / pack.weights
        return replace(output, loss=output.loss + CASES["loss_settings"]["beta"] * kl)

    assert_recorded(updated(golden_model(), views, objective), f"policy_scalar_{name}")


def test_policy_of_an_advantage_per_token() -> None:
    views = with_old(value_views(), recorded()["policy_adv_logp_old"])
    advantages = split(recorded()["gae_scalar_g9_l8_adv"], views)
    views = [
        replace(v, advantages=(a * v.target).sum(0)) for v, a in zip(views, advantages, strict=True)
    ]
    loss = LOSS | {"kl": CASES["loss_settings"]["beta"], "max_log_ratio": 10.0}
    objective = build_policy_objective(row(loss=loss))
    assert_recorded(updated(golden_model(), views, objective), "policy_adv_k3")


def test_likelihood() -> None:
    objective = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))
    assert_recorded(updated(golden_model(), scalar_views(), objective), "sft")


def test_values_and_their_loss() -> None:
    views, model = value_views(), value_model()
    assert (logprobs(model, views) - recorded_at("value_outputs", views)).abs().max() < 2e-4
    names = {"values": "value_old_for_loss", "returns": "gae_scalar_g9_l8_return"}
    tables = {name: split(recorded()[key], views) for name, key in names.items()}
    columns = [
        dict(zip(tables, of_view, strict=True)) for of_view in zip(*tables.values(), strict=True)
    ]
    assert_recorded(updated(model, views, build_value_objective(0.2), columns), "value")


@pytest.mark.parametrize("key", ["scalar_g1_l1", "scalar_g1_l0", "scalar_g9_l8"])
def test_returns_and_advantages(key: str) -> None:
    views = value_views()
    found = returns_and_advantages(
        trajectories(), views, split(recorded()["value_outputs"], views), **CASES["gae"][key]
    )
    for numbers, name in zip(found, ("return", "adv"), strict=True):
        assert (numbers - recorded_at(f"gae_{key}_{name}", views)).abs().max() < 1e-5


def test_published_rewards_of_tokens_are_read_by_step_number() -> None:
    """Where a list is not as long as the steps, step s earns its s-th number; here each token its own."""
    views, values = value_views(), split(recorded()["value_outputs"], value_views())
    pairs = zip(trajectories(), views, values, ITEMS, strict=True)
    found: list[Tensor] = []
    for trajectory, v, value, item in pairs:
        merged = torch.zeros(len(trajectory.canvas_ids), dtype=torch.int64)
        steps = torch.tensor(trajectory.step_map)
        for target in v.target:
            merged[target] = steps[target].max()
        # Steps are counted from 0 in the recorded trace.
        rewards = torch.tensor(item["reward_vec"], dtype=torch.float64)[(merged - 1).clamp(min=0)]
        both = token_returns_and_advantages(
            (value * v.target).sum(0)[None].double(), rewards[None], merged[None], 1.0, 1.0
        )
        found.append(torch.stack([each.expand(v.target.shape)[v.target] for each in both]))
    for numbers, name in zip(torch.cat(found, 1), ("return", "adv"), strict=True):
        assert (numbers - recorded_at(f"gae_vector_g1_l1_{name}", views)).abs().max() < 1e-5


@pytest.mark.parametrize("number", [0, 1])
def test_layout_of_mmadas_own_training(number: int) -> None:
    """The published answer has end-of-text up to a fixed length, all trained: `views.post_num` trains some."""
    ids = recorded()["mmu_train_ids"][number].tolist()
    codes = (recorded()[f"image_ids_{('wide', 'tall')[number]}"] - IDS.image_offset).tolist()
    text_ids = encode(CASES["mmu_train"]["texts"][number], load_tokenizer(FOLDER))
    sequence = understanding_prompt(codes, text_ids, IDS)
    num_filled = len(ids) - len(sequence)
    assert ids == sequence + [IDS.end_of_text] * num_filled
    # What may be hidden begins with the line break after the assistant's header.
    header = max(place for place, token in enumerate(ids) if token == END_OF_HEADER)
    is_prompt = recorded()["mmu_train_prompt_mask"][number].bool()
    assert is_prompt.tolist() == [place <= header for place in range(len(ids))]
    labels = recorded()["mmu_train_labels"][number]
    assert labels[~is_prompt].tolist() == ids[header + 1 :]
    # The same positions as a response of ours with as many trained pads.
    response = sequence[header + 1 :]
    demonstration = (sequence[: header + 1], response + [IDS.end_of_text] * num_filled, None)
    config = RandomViews(low=0.999, high=1.0, count=1, level="response")
    (views,) = of_demonstrations([demonstration], config, Canvas(None, is_full=True), [0])
    assert (views.canvas_ids == labels[~is_prompt]).all() and views.target.float().mean() > 0.9
