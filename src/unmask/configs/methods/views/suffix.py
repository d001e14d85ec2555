"""`views.kind = "suffix"`: the sampler's states, and for a teacher a part of what came later (arXiv 2606.18195)."""

from typing import ClassVar, Literal

from pydantic import Field

from unmask.configs.methods.view_section import ViewSection


class SuffixViews(ViewSection):
    """One view per denoising step, and the tokens right of its block that a teacher reads too."""

    has_hints: ClassVar[bool] = True
    kind: Literal["suffix"] = "suffix"
    """How a response becomes noisy views: `suffix` trains the states the sampler was in, as `trace` does, and
    shows a teacher a random part of the response right of the current block. For full attention."""
    retain: float = Field(default=0.25, gt=0, le=1)
    """Share of the positions right of the current block that the teacher reads; published: 0.25."""

    def refusal(self, is_full: bool, is_shifted: bool) -> str | None:
        """Return the refusal of block-causal models."""
        if not is_full:
            return (
                'views.kind = "suffix" shows a teacher tokens right of a block, which no block reads under '
                'block-causal attention: set views.kind = "trace" and loss.kind = "clipped"'
            )
        return super().refusal(is_full, is_shifted)
