"""Tiny runs on preference pairs: answers that hold sevens are preferred."""

import json
from pathlib import Path
from typing import Any

from tests.trainers.toy_runs import QUESTIONS, words_of_run
from unmask.configs.dpo import DPOConfig
from unmask.configs.load import load_config

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
