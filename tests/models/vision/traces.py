"""Recorded settings of MMaDA's and LLaDA-V's samplers as sampling parameters."""

from typing import Any

from tests.models.vision import lladav
from unmask.models.vision.lladav_prompt import expanded
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, PromptImage

STRATEGIES = {"confidence": "static", "margin_confidence": "margin"}


def params_of(settings: dict[str, Any], **others: Any) -> SamplingParams:
    """Return the parameters of recorded settings."""
    threshold = settings.get("unmask_threshold")
    strategy = STRATEGIES[settings.get("target", "confidence")]
    num_blocks = settings["gen_length"] // settings["block_length"]
    given: dict[str, Any] = {
        "strategy": strategy if threshold is None else "dynamic",
        "threshold": threshold or 0.9,
        "block_size": settings["block_length"],
        "denoising_steps": settings["steps"] // num_blocks,
        "max_tokens": settings["gen_length"],
        "temperature": 0.0,
        "guidance": settings.get("cfg_scale", 0.0),
    }
    return SamplingParams(**given | others)


def named(cases: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [case for case in cases if case["key"] in keys]


def lladav_prompt() -> Prompt:
    """Return the golden prompt of LLaDA-V, whose image is `wide`."""
    image = PromptImage(
        b"wide",
        len(lladav.recorded()["wide_image_features"]),
        lladav.recorded_image("wide"),
    )
    token_ids = expanded(lladav.recorded()["prompt_ids"].tolist(), [image])
    return Prompt("lladav", 0, (), token_ids, images=(image,))
