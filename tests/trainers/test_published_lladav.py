"""Rows, losses, values and gradients of dLLM-RL's trainers of LLaDA-V.

Departures that the rows show: the published end of turn, and what follows it, is never hidden and has no label (here it
is trained like any token of a response), and log-probabilities are over every id (`drawable`). Published
input vectors of RL are rounded to bfloat16; a hook on the embedding and the vision side does the same here. Published
filling on the left is masked, and positions count from it: rotations are relative, so that it makes no difference.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.vision.lladav import (
    CASES,
    FOLDER,
    SPECIAL,
    golden_model,
    recorded,
    recorded_image,
)
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
from unmask.checkpoints.build_reader import build_reader
from unmask.checkpoints.checkpoint import load_value_model
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.tokenizer import encode, load_tokenizer
from unmask.configs.methods.views.semi_ar import SemiARViews
from unmask.configs.sft import SFTConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.methods import semi_ar
from unmask.diffusion.views import Canvas, Views, views_under_noise
from unmask.engine.scoring import score_views
from unmask.images import MARKER
from unmask.models.conventions import conventions_of
from unmask.models.trained_parts import choose_trained
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel
from unmask.trainers.losses import (
    build_policy_objective,
    build_supervised_objective,
    build_value_objective,
)
from unmask.types import Message, Prompt, Trajectory

ITEMS: list[dict[str, Any]] = CASES["rl_data"]
REWARDS = [item["reward"] for item in ITEMS]
ROWS = {case["key"]: case for case in CASES["rl_rows"]}
OF_LOSSES = ROWS[CASES["loss_rows"]]
SETTINGS: dict[str, Any] = CASES["loss_settings"]
DISCOUNTS = {"gamma": SETTINGS["gamma"], "lam": SETTINGS["lam"]}
LOSS = {"reduction": "view", "kl": SETTINGS["beta"], "max_log_ratio": 10.0}


def prompt_of(item: dict[str, Any]) -> Prompt:
    """Return the prompt of an item; a marker in its text is its image once more, as published."""
    image = recorded_image(item["image"].removesuffix(".png"))
    text = f"{MARKER}\n{item['prompt']}"
    message = Message("user", text, (image,) * text.count(MARKER))
    tokenizer = load_tokenizer(FOLDER)
    found = prompt_tokens([message], tokenizer, build_reader(golden_model(), tokenizer))
    return Prompt("lladav", 0, (message,), found.token_ids, images=found.images)


@cache
def responses() -> list[tuple[Trajectory, list[int]]]:
    """Return the recorded responses up to their end of turn, and the tokens from there on."""
    found: list[tuple[Trajectory, list[int]]] = []
    for item in ITEMS:
        ids, end = encode(item["response"], load_tokenizer(FOLDER)), SPECIAL["<|eot_id|>"]
        size = ids.index(end) if end in ids else len(ids)
        found.append((written(prompt_of(item), ids[:size], item["step_map"], size), ids[size:]))
    return found


def rl_views(case: dict[str, Any] = OF_LOSSES) -> list[Views]:
    """Return the rows of our rules, with the published end, which is shown in every one."""
    views = traced([trajectory for trajectory, _ in responses()], REWARDS, case)
    return [_ended(v, rest) for v, (_, rest) in zip(views, responses(), strict=True)]


def _ended(views: Views, rest: Sequence[int]) -> Views:
    """Return views with tokens behind the canvas that are shown in every one."""
    shown = (0, len(rest))
    return replace(
        views,
        canvas_ids=torch.cat((views.canvas_ids, torch.tensor(rest, dtype=torch.int64))),
        block=views.block + len(rest),
        hidden=F.pad(views.hidden, shown),
        target=F.pad(views.target, shown),
        weight=F.pad(views.weight, shown),
        advantages=F.pad(views.advantages, shown),
        behavior_logprobs=F.pad(views.behavior_logprobs, shown),
        old_logprobs=F.pad(views.old_logprobs, shown),
    )


def policy() -> Model:
    """Return a model whose log-probabilities are over every id, as in the published code."""
    model = copy.deepcopy(golden_model())
    model.head.drawable[:] = True
    return model


def rounded(found: Any) -> Any:
    """Return a model, its input vectors now rounded to bfloat16, of which the published parts are trained."""
    for module in (found.backbone.embedding, found.backbone.vision):
        module.register_forward_hook(lambda _, __, vectors: vectors.bfloat16().float())
    choose_trained(found, "published_layers")
    return found


def value_model() -> ValueModel:
    model = load_value_model(FOLDER, like=golden_model().spec)
    with torch.no_grad():
        model.value_head.weight.copy_(recorded()["value_head_weight"])
    return rounded(model)


def numbers(model: Any, views: Sequence[Views]) -> list[Tensor]:
    """Return the log-probability, or the value, of every target."""
    packs = pack_views(views, conventions_of(model), 4000)
    return score_views(model, views, packs, [lambda s: getattr(s, "logprobs", s)])[0]


def recorded_at(name: str, views: Sequence[Views]) -> Tensor:
    return at_targets(split(recorded()[name], views), views)


@pytest.mark.parametrize("key", ROWS)
def test_rows_along_the_trace(key: str) -> None:
    views, rows = rl_views(ROWS[key]), recorded()
    hidden = split(rows[f"{key}_masked"].bool(), views)
    target = split(rows[f"{key}_pmask"].bool(), views)
    labels = split(rows[f"{key}_labels"], views)
    lengths = rows[f"{key}_attention"].sum(-1).split([len(v.target) for v in views])
    of_item = rows[f"{key}_seq_ids"].split([len(v.target) for v in views])
    columns = zip(views, responses(), hidden, target, labels, lengths, of_item, strict=True)
    for number, (v, (trajectory, _), h, t, of_row, length, item) in enumerate(columns):
        assert torch.equal(v.hidden, h) and torch.equal(v.target, t)
        assert item.unique().tolist() == [number]
        assert length.unique().tolist() == [len(v.prompt_ids) + len(v.canvas_ids)]
        size = len(trajectory.canvas_ids)
        assert (of_row[:, :size] == v.canvas_ids[:size]).all() and (of_row[:, size:] == -100).all()


def assert_recorded(update: Any, name: str) -> None:
    """Compare a loss, and the norm of its gradient."""
    assert update.loss == pytest.approx(CASES["losses"][name], abs=1e-3)
    expected = float(recorded()[f"grad_norm_{name}"])
    assert update.values["gradient_norm"] == pytest.approx(expected, rel=1e-3)


def test_values_returns_and_advantages() -> None:
    views = rl_views()
    values = numbers(value_model(), views)
    assert (at_targets(values, views) - recorded_at("value_outputs", views)).abs().max() < 1e-3
    trajectories = [
        replace(t, step_map=t.step_map + (0,) * len(rest), canvas_ids=(*t.canvas_ids, *rest))
        for t, rest in responses()
    ]
    recorded_values = split(recorded()["value_outputs"], views)
    found = returns_and_advantages(trajectories, views, recorded_values, **DISCOUNTS)
    for of_targets, name in zip(found, ("gae_return", "gae_adv"), strict=True):
        assert (of_targets - recorded_at(name, views)).abs().max() < 1e-5


def test_value_loss() -> None:
    views = rl_views()
    names = {"values": "value_old_for_loss", "returns": "gae_return"}
    columns = zip(*(split(recorded()[name], views) for name in names.values()), strict=True)
    tables = [dict(zip(names, pair, strict=True)) for pair in columns]
    assert_recorded(updated(value_model(), views, build_value_objective(0.2), tables), "value")


def test_policy_loss() -> None:
    views = with_old(rl_views(), recorded()["policy_logp_old"])
    advantages = split(recorded()["gae_adv"], views)
    views = [
        replace(v, advantages=(a * v.target).sum(0)) for v, a in zip(views, advantages, strict=True)
    ]
    model = rounded(policy())
    found = at_targets(numbers(model, views), views)
    assert (found - recorded_at("policy_logp", views)).abs().max() < 1e-3
    assert_recorded(updated(model, views, build_policy_objective(row(loss=LOSS))), "policy")


def test_published_gradients_reach_layers_norm_and_head_alone() -> None:
    """The recorded names are the first ones in order of the alphabet."""
    trained = {n for n, p in rounded(policy()).named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in trained} == {"projection", "layers", "norm"}
    stored = ["lm_head.weight"]
    stored += [f"model.layers.0.{part}.weight" for part in ("input_layernorm", "mlp.down_proj")]
    assert CASES["policy_params_with_gradient"][:3] == stored


def sft_views() -> list[Views]:
    """Return the recorded masks of the supervised rows, as views of each sample."""
    rows, found, start = recorded(), list[Views](), 0
    sizes = {
        0: 2,
        1: 2,
        2: 1,
    }  # of the two rows of the last sample one hides nothing and is left out
    for number, item in enumerate(CASES["sft_data"]):
        ids, prompt = encode(item["response"], load_tokenizer(FOLDER)), prompt_of(item)
        place = slice(start, start + sizes[number])
        target = rows["sft_masked"][place, -len(ids) :].bool()
        views = views_under_noise(prompt.token_ids, ids, len(ids), len(ids), target)
        found.append(replace(views, images=prompt.images))
        start = place.stop
    return found


def test_supervised_rows() -> None:
    views = sft_views()
    for number, v in enumerate(views):
        # The published placeholder of a whole image.
        firsts = {-1 - sum(i.count for i in v.images[:n]) for n in range(len(v.images))}
        prompt = [
            -200 if i in firsts else i for i in v.prompt_ids.tolist() if i >= 0 or i in firsts
        ]
        assert [*prompt, *v.canvas_ids.tolist()] == recorded()[f"sft_ids{number}"].tolist()
    for rows, v in zip(split(recorded()["sft_labels"], views), views, strict=True):
        assert (rows == v.canvas_ids).all()
    variants, hidden = iter(CASES["sft_variants"]), [h for v in views for h in v.hidden]
    for mask in hidden:
        variant = next(variants)
        generator = torch.Generator().manual_seed(variant["mask_seed"])
        assert torch.equal(torch.rand(len(mask), generator=generator) < variant["t"], mask)


def test_supervised_loss() -> None:
    """Its input vectors are not rounded."""
    views, model = sft_views(), policy()
    found = at_targets(numbers(model, views), views)
    assert (found - recorded_at("sft_logp", views)).abs().max() < 2e-4
    objective = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))
    update = updated(model, views, objective)
    assert update.loss == pytest.approx(CASES["losses"]["sft"], abs=1e-3)


def test_blocks_in_order() -> None:
    """Rows by groups of one block; ours are those of the blocks that a response reaches."""
    steps: list[int] = CASES["sft_semi_ar_step_map"]
    block = 4
    config = SemiARViews(train_block=block, low=0.5, high=1.0)
    demonstration = ((1, 2), tuple(range(3, 3 + len(steps))), None)
    (views,) = semi_ar.of_demonstrations([demonstration], config, Canvas(block, True), [0])
    later = views.hidden & ~views.target
    of_sample = [v["step"] for v in CASES["sft_semi_ar_variants"] if v["sample_id"] == 0]
    assert len(views.hidden) == len(of_sample)
    for step, target, hidden in zip(of_sample, views.target, later, strict=True):
        assert hidden[torch.tensor(steps) > step].all()
        assert not target[torch.tensor(steps) != step].any()
