"""The golden LLaDA-V: its vision side, its language model, and a prompt with an image."""

import json
from functools import cache
from typing import Any

import torch
from PIL import Image as pillow
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from unmask.checkpoints.checkpoint import load_model
from unmask.images import Image, image_from
from unmask.models.transformer import Model
from unmask.models.vision.lladav import LladavVision

FOLDER = GOLDEN / "lladav"
CASES: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text())
SPECIAL: dict[str, int] = CASES["special_ids"]


@cache
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@cache
def golden_model() -> Model:
    """Return a model that may write any id except the mask, as in the published code."""
    model = load_model(FOLDER, mask_id=SPECIAL["<|mdm_mask|>"])
    model.head.drawable = torch.ones_like(model.head.drawable)
    model.head.drawable[model.spec.mask_id] = False
    return model


def vision_side() -> LladavVision:
    vision = golden_model().backbone.vision
    assert isinstance(vision, LladavVision)
    return vision


def recorded_image(name: str) -> Image:
    """Return a recorded photograph as a file."""
    return image_from(pillow.fromarray(recorded()[f"{name}_photo"].numpy()), name)
