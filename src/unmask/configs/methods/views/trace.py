"""`views.kind = "trace"`: the states the sampler was in (TraceRL, arXiv 2509.06949)."""

from typing import ClassVar, Literal

from pydantic import Field

from unmask.configs.methods import Source
from unmask.configs.methods.view_section import ViewSection


class TraceViews(ViewSection):
    """One view per denoising step: what was hidden then, and what was revealed."""

    sources: ClassVar[tuple[Source, ...]] = ("demonstrations", "pairs", "rollouts")
    kind: Literal["trace"] = "trace"
    """How a response becomes noisy views: `trace` trains the states the sampler was in (TraceRL), in SFT
    those of the demonstrations' `step_map`; `random` hides random tokens; `coupled` also hides the
    others in a second view (dLLM-RL's; DiffuCoder's coupled objective is another)."""
    shrink: int = Field(default=1, ge=1)
    """Neighbouring reveals merged into one view: fewer views, coarser conditionals."""

    post_stop: Literal["score", "ignore"] = "score"
    """Positions right of the response under `loss.likelihood = "move"`: what the sampler drew there before it
    stopped took part in every move. `score` is exact; `ignore` trains the response alone."""

    @property
    def needs_step_map(self) -> bool:
        """Always."""
        return True

    @property
    def is_sampler_path(self) -> bool:
        """Whether no reveals are merged and no block is enlarged."""
        return self.shrink == 1 and self.train_block is None
