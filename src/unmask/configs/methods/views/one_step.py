"""`views.kind = "one_step"`: the whole response at once, from a prompt under noise (d1, arXiv 2504.12216)."""

from typing import Literal

from pydantic import Field

from unmask.configs.methods.mask_section import CountedMask


class OneStepViews(CountedMask):
    """Views that hide the whole response: the mean field of one denoising step."""

    kind: Literal["one_step"] = "one_step"
    """How a response becomes noisy views: `one_step` hides all of it, so that every token is predicted at
    once; in block-causal models every block, behind the clean blocks before it."""
    prompt_noise: float = Field(default=0.15, ge=0, lt=1)
    """Probability with which each token of the prompt is hidden, drawn for each view; published: 0.15."""

    @property
    def has_own_prompts(self) -> bool:
        """Whether there is noise."""
        return self.prompt_noise > 0

    @property
    def predicted(self) -> float:
        """All of it."""
        return 1.0

    def noisy_share(self, block: int) -> float:
        """Return 1: every block is hidden."""
        return 1.0
