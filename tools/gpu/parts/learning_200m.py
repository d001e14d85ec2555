"""Block SFT, then TraceRL, of a model of 200M random parameters: does a model of real width learn on this device.

The task is the quickstart's (sums of three numbers), because it can be learnt from nothing in a minute. Expected on an
H200: SFT 100 steps of about 7k packed tokens at 0.1 s, TraceRL 25 steps of 1,024 answers at 1 s, and 20 s for
checkpoints and compilation: a minute together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from setting import quickstart_config

from tools.gpu.part import Outcome, Part, Setting
from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer, num_tokens
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.models.families import family_named
from unmask.models.transformer import Model, initialise
from unmask.runs.files import atomic_directory
from unmask.runs.read import read_lines
from unmask.tasks.build import build_task
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

TASK = "chain_sum"
# Of the reward, from the first third of the steps to the last, whose noise is 0.006; less where it is near 1 at first.
LEAST_RISE = 0.02
LEAST_SHARE = 1 / 3  # of what is missing to 1


@dataclass(frozen=True, slots=True)
class Size:
    """Shape of the model, and how long it is trained."""

    width: int
    num_layers: int
    sft: Sequence[str]
    rl: Sequence[str]


# Learning rates fall with the width: the quickstart's, at width 64, over 16.
FULL = Size(
    width=1024,
    num_layers=16,
    sft=["steps=100", "data.batch_size=256", "optimizer.lr=2.5e-4", "optimizer.token_budget=8192"],
    rl=["steps=25", "rollout.prompts=128", "optimizer.lr=2e-5", "optimizer.token_budget=16384"],
)
TINY = Size(
    width=64,
    num_layers=1,
    sft=["steps=3", "data.batch_size=8", "task.size=200"],
    rl=["steps=3", "rollout.prompts=4", "task.size=200", "filter.drop_uniform=false"],
)


def run(setting: Setting) -> Outcome:
    """Train by SFT and by TraceRL; loss must fall, reward must rise, and nothing may be infinite."""
    return train(TINY if setting.is_tiny else FULL, setting)


def train(size: Size, setting: Setting) -> Outcome:
    """Train a model of a size, and judge the curves of both stages."""
    words = [f"model.device={setting.device}", "save_every=0", "eval.every=0"]
    base, folder = setting.folder / "base", setting.folder
    sft = quickstart_config(SFTConfig, TASK, folder / "sft", base, [*words, *size.sft])
    num_parameters = make_model(sft, size, base)
    rl = quickstart_config(RLConfig, TASK, folder / "rl", train_sft(sft), [*words, *size.rl])
    train_rl(rl)
    losses, tokens_per_s = curves(sft.run.dir, "loss", "packed_tokens_per_s")
    rewards, gaps, written = curves(rl.run.dir, "reward", "logprob_gap_max", "tokens_per_s")
    figures: dict[str, Any] = {
        "parameters": num_parameters,
        "settings": {"sft": [*size.sft], "rl": [*size.rl]},
        "sft": {"loss": losses, "packed_tokens_per_s": tokens_per_s},
        "rl": {"reward": rewards, "logprob_gap_max": gaps, "tokens_per_s": written},
        "rl_seconds": {
            stage: sum(curves(rl.run.dir, f"{stage}_wall_s")[0])
            for stage in ("rollout", "reward", "update")
        },
    }
    fall, rise = (first_and_last(curve) for curve in (losses, rewards))
    is_finite = all(map(isfinite, [*losses, *rewards, *gaps]))
    least = min(LEAST_RISE, LEAST_SHARE * (1 - rise[0]))
    learns = fall[1] < fall[0] and rise[1] - rise[0] >= least
    summary = (
        f"{num_parameters / 1e6:.0f}M: loss {fall[0]:.3f} -> {fall[1]:.3f} at "
        f"{fmean(tokens_per_s[len(tokens_per_s) // 3 :]):,.0f} tokens/s, reward {rise[0]:.3f} -> {rise[1]:.3f}"
    )
    # A few steps of a toy run teach nothing: the rehearsal holds that the numbers are finite.
    return Outcome(summary, is_finite and (setting.is_tiny or learns), figures)


def make_model(config: SFTConfig, size: Size, directory: Path) -> int:
    """Write a checkpoint with random weights, and return the number of its parameters."""
    assert config.task is not None
    task = build_task(config.task)
    assert task.alphabet is not None
    num_heads = size.width // 64
    with atomic_directory(directory) as place:
        vocab_size = num_tokens(character_tokenizer(task.alphabet, place))
        spec = replace(
            family_named("sdar").tiny,
            num_layers=size.num_layers,
            width=size.width,
            head_width=64,
            num_heads=num_heads,
            num_kv_heads=max(1, num_heads // 2),
            ffn_width=3 * size.width,
            vocab_size=vocab_size,
            num_drawable=vocab_size,
            max_length=512,
        )
        model = Model(spec)
        initialise(model, config.run.seed)
        save_model(model, place)
    task.close()
    return sum(parameter.numel() for parameter in model.parameters())


def curves(run: Path, *names: str) -> list[list[float]]:
    """Return metrics of a run by step; a step without one is left out of its curve."""
    lines = list(read_lines(run / "metrics.jsonl"))
    # The file holds null where a number is not finite.
    return [
        [float("nan") if line[name] is None else line[name] for line in lines if name in line]
        for name in names
    ]


def first_and_last(curve: Sequence[float]) -> tuple[float, float]:
    """Return the means of the first and of the last third of a curve."""
    third = max(1, len(curve) // 3)
    return fmean(curve[:third]), fmean(curve[-third:])


PART = Part(
    "block SFT, then TraceRL, of 200M random parameters",
    "learning",
    run,
    limit_s=120,
    is_default=False,
)
