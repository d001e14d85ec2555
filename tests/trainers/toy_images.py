"""Whole runs about images that take a second: a random LLaDA-V, pictures of squares, and a reward of our own."""

import json
import random
import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image as pillow

from tests.models.toy import FAMILY_CHANGES
from tests.toy import ALPHABET, SPEC, toy_checkpoint
from tests.trainers import breaking
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.models.vision.lladav import LladavVisionSpec
from unmask.models.vision.siglip import SiglipSpec
from unmask.types import Prompt

TOWER = SiglipSpec(width=16, ffn_width=32, num_layers=2, num_heads=2, image_size=16, patch_size=8)
VISION = LladavVisionSpec(SPEC.width, TOWER, grids=((16, 16), (32, 16), (16, 32)), most_tiles=4)
# The first question is asked of two pictures: two problems.
QUESTIONS = (("1+2=", 0), ("1+2=", 1), ("3-4=", 0), ("50+1=", 2), ("7=", 2), ("6+6+6=", None))
# In place of the family's, which is long.
SYSTEM = {"role": "system", "content": "-"}


def share_of_even_digits(prompt: Prompt, response: str) -> Any:
    """Reward a response for every even digit it holds, or break as `tests.trainers.breaking` does."""
    return breaking.reward(prompt, re.sub("[02468]", "7", response))


def write_picture(path: Path, seed: int) -> None:
    """Write a picture of coloured squares, wide, tall or square."""
    colours = random.Random(seed).randbytes(3 * 4 * 4)
    small = pillow.frombytes("RGB", (4, 4), colours)
    size = ((16, 16), (30, 14), (9, 21))[seed % 3]
    small.resize(size, pillow.Resampling.NEAREST).save(path)


def write_files(place: Path) -> None:
    """Write checkpoint, pictures, questions and demonstrations once."""
    if (place / "checkpoint").exists():
        return
    changes = FAMILY_CHANGES["lladav"] | {"vision": VISION, "mask_id": 1}
    toy_checkpoint(place / "checkpoint", f"{ALPHABET}\n", family="lladav", **changes)
    model = load_model(place / "checkpoint")
    with torch.no_grad():
        model.head.projection.weight.mul_(0.05)  # unsure of everything
    save_model(model, place / "checkpoint")
    for seed in range(3):
        write_picture(place / f"{seed}.png", seed)
    asked = [
        {"prompt": [SYSTEM, {"role": "user", "content": q}], "ground_truth_answer": "7"}
        | ({} if n is None else {"image": f"{n}.png"})
        for q, n in QUESTIONS
    ]
    (place / "questions.json").write_text(json.dumps(asked))
    answers = [
        {"prompt": q, "response": "7;77<eos>", "step_map": [1, 3, 1, 2, 4]}
        | ({} if n is None else {"image": f"{n}.png"})
        for q, n in QUESTIONS
    ]
    (place / "demonstrations.json").write_text(json.dumps(answers))


def _words(place: Path, run: str) -> list[str]:
    write_files(place)
    return [
        f"run.dir={place / run}",
        f"model.path={place / 'checkpoint'}",
        "steps=2",
        "task.kind=json",
        "task.reward=tests.trainers.toy_images:share_of_even_digits",
        f"task.train={place / 'questions.json'}",
        f"task.validation={place / 'questions.json'}",
        "optimizer.lr=1e-3",
        "eval.problems=0",
    ]


def rl_config(place: Path, *words: str, run: str = "run") -> RLConfig:
    """Return a tiny `unmask rl`, with `key=value` words laid over it."""
    settings = ["rollout.prompts=3", "rollout.responses=4", "sampling.max_tokens=8", *words]
    return load_config(RLConfig, [], _words(place, run) + settings)[0]


def sft_config(place: Path, *words: str, run: str = "run") -> SFTConfig:
    """Return a tiny `unmask sft`, with `key=value` words laid over it."""
    path = f"data.path={place / 'demonstrations.json'}"
    settings = [
        path,
        "data.rendered=true",
        "data.batch_size=4",
        "eval.sampling.max_tokens=8",
        *words,
    ]
    return load_config(SFTConfig, [], _words(place, run) + settings)[0]
