"""`[sampling]`: how responses are unmasked."""

from typing import Any

from pydantic import Field

from unmask.configs.section import Section
from unmask.types import Confidence, SamplingParams, Strategy


class SamplingConfig(Section):
    """How responses are unmasked."""

    strategy: Strategy = "dynamic"
    """`static` (a quota per denoising step), `dynamic` (all slots above the threshold), `random`,
    `left_to_right`."""
    block_size: int | None = Field(default=None, ge=1)
    """Slots per diffusion block; the model's own when not given."""
    denoising_steps: int | None = Field(default=None, ge=1)
    """Denoising steps a block may take; one per slot when not given."""
    threshold: float = Field(default=0.9, ge=0, le=1)
    """Confidence a slot must exceed to be revealed by `dynamic`."""
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
    stop_token_ids: tuple[int, ...] | None = None
    """Token ids that end a response; the model's end-of-text ids when not given."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of a response."""

    def to_params(self, **changes: Any) -> SamplingParams:
        """Return the engine's record of these settings, with `changes` (seed, n) laid over them."""
        return SamplingParams(**{**self.model_dump(), **changes})
