"""The golden MMaDA with images: its token ids, and the texts of its text-to-image prompts."""

import json
from dataclasses import replace
from typing import Any

from tests.models.toy import GOLDEN
from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.tokenizer import encode, load_tokenizer
from unmask.models.transformer import Model
from unmask.models.vision.mmada_prompt import MmadaIds

FOLDER = GOLDEN / "mmada_v"
CASES: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text())
SPECIAL = CASES["special_ids"]
IDS = MmadaIds(
    image_offset=CASES["image_token_offset"],
    num_codes=128,
    side=8,
    mask=SPECIAL["<|mdm_mask|>"],
    start_of_text=SPECIAL["<|startoftext|>"],
    end_of_text=SPECIAL["<|endoftext|>"],
    start_of_image=SPECIAL["<|soi|>"],
    end_of_image=SPECIAL["<|eoi|>"],
    text_to_image=SPECIAL["<|t2i|>"],
    understanding=SPECIAL["<|mmu|>"],
    filling=SPECIAL["[iPAD]"],
)
MAX_TEXT: int = CASES["t2i"]["max_text_len"]


def text_to_image_ids(row: int | None) -> list[int]:
    """Return the token ids of a text, cut as the published code cuts it; empty for `None`."""
    text = "" if row is None else CASES["t2i"]["texts"][row]
    return encode(text, load_tokenizer(FOLDER))[: MAX_TEXT - 2] if text else []


def drawing_model() -> Model:
    """Return the golden model with the ids of its images, which the published config does not state."""
    loaded = load_model(FOLDER)
    model = Model(replace(loaded.spec, image_ids=IDS))
    model.load_state_dict(loaded.state_dict())
    model.source = FOLDER
    return model
