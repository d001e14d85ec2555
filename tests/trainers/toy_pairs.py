"""Tiny runs on preference pairs: answers that hold sevens are preferred."""

import json
from pathlib import Path
from typing import Any

from tests.trainers.toy_runs import QUESTIONS, words_of_run
from unmask.configs.dpo import DPOConfig
from unmask.configs.load import load_config
from unmask.configs.reward_model import RewardModelConfig

PAIRS: list[dict[str, Any]] = [
    {"prompt": q, "chosen": "7" * (2 + n), "rejected": "12;4"[: 2 + n % 3] + "<eos>"}
    for n, q in enumerate(QUESTIONS)
]


def pairs_file(place: Path) -> Path:
    """Write the pairs, and return where they are."""
    path = place / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return path


def dpo_config(place: Path, *words: str, run: str = "run") -> DPOConfig:
    """Return a tiny `unmask dpo`, with `key=value` words laid over it."""
    settings = [
        f"pairs.path={pairs_file(place)}",
        "pairs.batch_size=4",
        "eval.sampling.max_tokens=8",
        *words,
    ]
    return load_config(DPOConfig, [], words_of_run(place, run) + settings)[0]


def reward_config(place: Path, *words: str, run: str = "judge") -> RewardModelConfig:
    """Return a tiny `unmask reward-model`, with `key=value` words laid over it."""
    kept = ("run.", "model.", "steps=", "optimizer.")
    own = [word for word in words_of_run(place, run) if word.startswith(kept)]
    settings = [f"pairs.path={pairs_file(place)}", "pairs.batch_size=4", *words]
    return load_config(RewardModelConfig, [], own + settings)[0]
