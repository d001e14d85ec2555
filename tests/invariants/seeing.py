"""Toy models with LLaDA-V's vision side under every kind of attention, and what they write about images."""

import random
from collections.abc import Sequence
from functools import cache

import torch
from PIL import Image as pillow

from tests.engine.pictures import prompt_with
from tests.engine.writers import results_of, trajectory_of
from tests.invariants.conventions import FULL, SHIFTED
from tests.toy import SPEC, toy_model
from unmask.configs.model import TrainedParts
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.images import image_from
from unmask.models.trained_parts import choose_trained
from unmask.models.transformer import Model
from unmask.models.vision.lladav import LladavVision, LladavVisionSpec
from unmask.models.vision.siglip import SiglipSpec
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, PromptImage, Trajectory

KINDS = {"full": FULL, "block-causal": {}, "block-causal, shifted": SHIFTED}
TOWER = SiglipSpec(width=16, ffn_width=32, num_layers=2, num_heads=2, image_size=16, patch_size=8)
VISION = LladavVisionSpec(SPEC.width, TOWER, grids=((16, 16), (32, 16), (16, 32)), most_tiles=4)


def seeing_model(
    name: str, dtype: torch.dtype = torch.float64, trains: TrainedParts = "all"
) -> Model:
    """Return a toy model of one of `KINDS` that reads images."""
    model = toy_model(1, dtype, vision=VISION, **KINDS[name])
    choose_trained(model, trains)
    return model


def vision_of(model: Model) -> LladavVision:
    assert isinstance(model.backbone.vision, LladavVision)
    return model.backbone.vision


@cache
def picture(seed: int, width: int = 16, height: int = 16) -> PromptImage:
    """Return a picture of coloured squares, with the number of its vectors."""
    colours = random.Random(seed).randbytes(3 * 4 * 4)
    small = pillow.frombytes("RGB", (4, 4), colours)
    image = image_from(small.resize((width, height), pillow.Resampling.NEAREST), f"{seed}.png")
    return PromptImage(image.digest, VISION.num_vectors(width, height), image)


def prompts() -> list[Prompt]:
    """Return prompts of one picture, of two, of one twice, and of none; blocks cut them everywhere."""
    square, wide, tall = picture(0), picture(1, 30, 14), picture(2, 9, 21)
    held = [(square,), (wide, square), (tall, tall), (), (wide,), (square,), (square,), (tall,)]
    return [prompt_with(images, 1 + n % 4, n // 2) for n, images in enumerate(held)]


def written(
    model: Model, asked: Sequence[Prompt], params: EngineParams | None = None
) -> list[Trajectory]:
    """Let an engine answer prompts, with stops in every place."""
    return by(Engine(model, params), asked)


def by(engine: Engine, asked: Sequence[Prompt]) -> list[Trajectory]:
    """Let an engine that may have answered before answer prompts."""
    numbers = [
        engine.submit(
            prompt,
            SamplingParams(
                strategy=("static", "dynamic", "random")[n % 3],
                threshold=0.3,
                block_size=4,
                stop_token_ids=(5, 7, 11) if n % 2 else (),
                max_tokens=5 + n % 5,
                seed=n,
            ),
        )
        for n, prompt in enumerate(asked)
    ]
    finished = results_of(engine.collect())
    return [trajectory_of(finished[number]) for number in numbers]
