"""Optimizer steps of SFT on packed samples of GSM8K's lengths, under random weights."""

import random
from statistics import median
from typing import Any

import torch
from shapes import BLOCK, drawn_model, sdar_spec
from torch import Tensor

from tools.gpu.measure import (
    Card,
    ModelCost,
    card_of,
    device_name,
    measure_ceilings,
    parameters,
    prepare,
    rounded,
    seconds,
    training_flops,
)
from tools.gpu.part import Outcome, Setting
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses
from unmask.models.attention import sees
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective

ANY_RUN = {"model": {"path": "-"}, "data": {"path": "-"}}
# Tokens of question and worked answer, their least and most: means of about 110 and 160.
PROMPTS, RESPONSES = (50, 170), (60, 260)
PACKS, STEPS = 4, 3
# Rows of a mask that are counted at a time.
COUNTED = 1024


def draw_samples(vocabulary: int, num_tokens: int) -> list[Views]:
    """Return block-SFT views of demonstrations that take about `num_tokens` tokens, one view each."""
    rng = random.Random(0)
    pairs: list[tuple[list[int], list[int]]] = []
    filled = 0
    while True:
        lengths = rng.randint(*PROMPTS), rng.randint(*RESPONSES)
        # Prompt, clean and noisy response; each is padded by less than a block.
        filled += lengths[0] + 2 * (lengths[1] + BLOCK)
        if filled > num_tokens and pairs:
            break
        prompt, response = ([rng.randrange(2, vocabulary) for _ in range(n)] for n in lengths)
        pairs.append((prompt, response))
    noise = (NoiseSchedule(0.0, 1.0, "block"), 1)
    return views_of_responses(pairs, BLOCK, noise, list(range(len(pairs))))


def count_pairs(packs: list[Pack], device: torch.device) -> int:
    """Return the visible query-key pairs of all packs."""

    def visible(structure: Tensor) -> int:
        pieces = structure.split(COUNTED, 1)
        return sum(int(sees(p[:, :, None], structure[:, None]).sum()) for p in pieces)

    return sum(visible(pack.structure.to(device)) for pack in packs)


def measure_sft(setting: Setting, shape: str, budget: int) -> dict[str, Any]:
    """Return seconds, useful tokens per second and MFU with and without gradient checkpointing."""
    device, is_tiny = setting.device, setting.is_tiny
    prepare(device)
    reached = measure_ceilings(device, is_tiny)
    card = card_of(device_name(device)) or reached
    model = drawn_model(
        sdar_spec(shape, is_tiny), device, torch.float32 if is_tiny else torch.bfloat16
    )
    budget = 1024 if is_tiny else budget
    count = 1 if is_tiny else PACKS
    views = draw_samples(model.spec.vocab_size, count * budget)
    # One pack more, nearly empty, would be filled and cost as much as a full one.
    while len(packs := pack_views(views, conventions_of(model), budget)) > count:
        views.pop()
    learner = Learner(model, OptimizerConfig(token_budget=budget))
    objective = build_supervised_objective(SFTConfig.model_validate(ANY_RUN))
    denominator = float(sum(int(v.target.sum()) for v in views))

    def step() -> None:
        learner.update(views, objective, denominator)

    runs: dict[str, list[float]] = {"off": [], "on": []}
    for is_counted in (False, *[True] * STEPS):  # off, on, off, on; the first round compiles
        for name, found in runs.items():
            model.backbone.gradient_checkpointing = name == "on"
            spent = seconds(step, device)
            if is_counted:
                found.append(spent)
    tokens = sum(len(pack.tokens) for pack in packs)
    scored = sum(len(pack.rows) for pack in packs)
    useful = sum(len(v.prompt_ids) + int((v.weight[0] > 0).sum()) for v in views)
    pairs = count_pairs(packs, device)
    work = {"tokens": tokens, "scored": scored, "useful": useful, "pairs": pairs}
    return {
        "settings": _settings(model, shape, budget, len(views), len(packs)),
        "work": work,
        "card": card,
        "reached": reached,
        "checkpointing": {
            name: {"seconds": found, **_rates(model, work, median(found), card)}
            for name, found in runs.items()
        },
    }


def _rates(model: Model, work: dict[str, int], spent: float, card: Card) -> dict[str, float]:
    cost = ModelCost.of(model.spec)
    stated = training_flops(cost, work["tokens"], work["pairs"])
    # The head runs on scored rows only.
    needed = stated - 6.0 * cost.head * (work["tokens"] - work["scored"])
    return {
        "useful_tokens_per_s": work["useful"] / spent,
        "packed_tokens_per_s": work["tokens"] / spent,
        "mfu": stated / spent / card.flops,
        "mfu_of_needed": needed / spent / card.flops,
    }


def _settings(model: Model, shape: str, budget: int, samples: int, packs: int) -> dict[str, Any]:
    return {
        "shape": shape,
        "parameters": parameters(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "samples": samples,
        "prompt_tokens": PROMPTS,
        "response_tokens": RESPONSES,
        "packs": packs,
        "token_budget": budget,
        "optimizer": "AdamW, fused, fp32 masters",
        "mfu": "(6 parameters tokens + 12 visible pairs channels) / seconds / bf16 peak",
        "mfu_of_needed": "the same with the head's operations of scored rows only",
    }


def outcome_of(setting: Setting, shape: str, budget: int, bar: float) -> Outcome:
    """Measure a shape; at full size the better of both runs has to reach `bar`."""
    found = measure_sft(setting, shape, budget)
    runs = found["checkpointing"]
    shown = "; ".join(
        f"checkpointing {name}: {run['useful_tokens_per_s']:,.0f} useful tok/s, MFU {run['mfu']:.0%} "
        f"({run['mfu_of_needed']:.0%} of needed)"
        for name, run in runs.items()
    )
    passed = max(run["mfu"] for run in runs.values()) >= bar
    return Outcome(shown, None if setting.is_tiny else passed, rounded(found))
