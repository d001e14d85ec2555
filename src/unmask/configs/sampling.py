"""`[sampling]`: how responses are unmasked.

A preset is laid below the keys that are stated, here and now: the configuration that comes out holds
the values themselves, and a stored one says the same when presets have changed since.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from unmask.configs.section import Section
from unmask.presets import PRESETS
from unmask.types import Confidence, EntropySum, SamplingParams, Schedule, Strategy


def with_preset(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stated keys, with the values of the preset they name below them."""
    return {**PRESETS.get(str(stated.get("preset")), {}), **stated}


class SamplingConfig(Section):
    """How responses are unmasked."""

    preset: str | None = None
    """A published sampler whose values stand where no key is given: `sdar`, `sdar_static`,
    `dllm_rl_jetengine`, `llada_official`, `mmada_official`, `fastdllm_v1`, `fastdllm_factor`,
    `dream_official`, `diffucoder_official`, `llada2`, `llada2_1`, `fastdllm_v2`,
    `sglang_lowconf`."""
    strategy: Strategy = "dynamic"
    """Which slots a denoising step reveals: a quota of the most confident (`static`), of those with
    the largest lead of their likeliest token (`margin`), of the least entropy (`entropy`), in
    `random` order or `left_to_right`; or the quota and all above the threshold (`dynamic`), or as
    many as `factor` or the entropy bound (`entropy_bounded`) allow."""
    block_size: int | None = Field(default=None, ge=1, le=2**20)
    """Slots per diffusion block; the model's own when not given."""
    sub_block_size: int | None = Field(default=None, ge=1, le=2**20)
    """Slots of a block that are open at a time, from the left; the model's own when not given."""
    denoising_steps: int | None = Field(default=None, ge=1, le=2**20)
    """Denoising steps a block may take; one per slot when not given."""
    schedule: Schedule = "even"
    """How the quota goes over the steps: `even` splits a block's masks, `block` its slots (SDAR),
    `linear` follows Dream's time grid."""
    threshold: float = Field(default=0.9, gt=0, le=1)
    """Confidence a slot must exceed to be revealed by `dynamic`."""
    factor: float = Field(default=1.0, ge=0)
    """`factor` reveals the n most confident slots while (n + 1)(1 - confidence of the last) is below
    this."""
    entropy_bound: float = Field(default=0.1, ge=0)
    """Nats: `entropy_bounded` reveals slots of least entropy while their sum stays within this."""
    entropy_sum: EntropySum = "exclusive"
    """What `entropy_bounded` sums: the entropies of the slots before a slot, to at most the bound
    (`exclusive`, the paper's), or its own as well, to less than the bound (`inclusive`,
    JetEngine's)."""
    temperature: float = Field(default=1.0, ge=0)
    """Softmax temperature of the drawn tokens; 0 takes the most likely one."""
    top_k: int = Field(default=0, ge=0)
    """Draw from the k most likely tokens; 0 is no limit."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the smallest set of tokens with this much probability."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Draw from tokens at least this fraction as likely as the most likely one."""
    confidence: Confidence = "raw"
    """Rank slots by the `raw` probability of their token, or by the `filtered` one as published
    samplers do."""
    guidance: float = Field(default=0.0, ge=0)
    """Classifier-free guidance; the reference sampler alone does it."""
    edit_threshold: float | None = Field(default=None, ge=0, le=1)
    """Written tokens of the current block are written again where the model is surer than this of
    another one (LLaDA2.1); never when not given."""
    max_edit_steps: int = Field(default=16, ge=0)
    """Passes over a block without masks that may still edit it."""
    remask_threshold: float | None = Field(default=None, ge=0, le=1)
    """Written tokens of the current block that are less probable than this by now are masked again;
    never when not given."""
    stop_token_ids: tuple[int, ...] | None = None
    """Token ids that end a response; the model's end-of-text ids when not given."""
    stop: tuple[str, ...] = ()
    """Texts that end a response; looked for when a block is finished."""
    max_tokens: int = Field(default=256, ge=1, le=2**20)
    """Most tokens of a response; under full attention, the slots of the canvas."""

    @model_validator(mode="before")
    @classmethod
    def _lay_preset_below(cls, values: Any) -> Any:
        return with_preset(values) if isinstance(values, Mapping) else values

    @field_validator("preset")
    @classmethod
    def _check_preset(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise ValueError(f"{name!r} must be one of {', '.join(PRESETS)}")
        return name

    def to_params(self, **changes: Any) -> SamplingParams:
        """Return the engine's record of these settings, with `changes` (seed, n) laid over them."""
        return SamplingParams(**{**self.model_dump(exclude={"preset"}), **changes})
