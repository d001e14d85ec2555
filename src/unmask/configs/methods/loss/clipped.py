"""`loss.kind = "clipped"`: the clipped surrogate of PPO, and a KL penalty."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from unmask.configs.methods import Source
from unmask.configs.section import Section
from unmask.types import Reduction

Low = Annotated[float, Field(gt=0, lt=1)]
High = Annotated[float, Field(gt=0)]


class ClippedLoss(Section):
    """The clipped surrogate."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    kind: Literal["clipped"] = "clipped"
    """What is minimised."""
    likelihood: Literal["revealed", "move"] = "revealed"
    """What a denoising step is scored by: `revealed` are the tokens it wrote, as published; `move` is everything it
    drew: the tokens written, and at the other positions it looked at the probability that the draw there was
    not written. Where the drawn tokens decide which are written (`static`, `dynamic`, `factor`, edits), `move`
    is the gradient of the sampler and `revealed` is not; under other strategies they are the same. `move`
    scores more rows and has a larger variance (docs/exact.md)."""
    per_move: bool = False
    """Under `likelihood = "move"`, the ratio, its clip and the KL divergence are of a whole move, not of each
    position."""
    clip: tuple[Low, High] = (0.2, 0.2)
    """[low, high]: the probability ratio is clipped to 1 - low from below and 1 + high from above; no
    effect in a step's first update, where it is 1."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Where the advantage A is negative the surrogate is no lower than dual_clip * A; none is no limit."""
    max_importance: float | None = Field(default=None, gt=0)
    """Weigh targets by old over behavior probability, up to this; none is no weight. For when the
    learner's old log-probabilities are not the engine's (bfloat16, merged or random views)."""
    max_log_ratio: float | None = Field(default=None, gt=0)
    """The log-ratio is clamped to within this many nats before it is exponentiated, in the surrogate
    and in `k3`; `k1` and the linear term of `k3` are not. Published: 10 for block models, none for
    full attention."""
    kl: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the policy that `kl_to` names."""
    kl_estimator: Literal["k1", "k3"] = "k3"
    """`k3` is never negative and its gradient points back; `k1` is the difference of the
    log-probabilities."""
    kl_to: str = Field(default="step", min_length=1)
    """`step` is the policy that starts the step, `reference` the frozen model that the run starts from;
    anything else is the directory or hub id of a frozen model."""
    nll: float = Field(default=0.0, ge=0)
    """Weight of `-log pi` of the tokens of right responses, those whose outcome is at least `nll_from`;
    published: 0.1 (LightningRL)."""
    nll_from: float = 1.0
    """Lowest outcome of the task's grader that makes a response right for `nll`."""
    reduction: Reduction = "tokens"
    """What the loss is averaged over; `view` is the published choice for full attention, `constant`
    for block models, where the length is `sampling.max_tokens` (published: the longest response of
    the step)."""

    @property
    def least_right(self) -> float | None:
        """Lowest outcome of a right response, if the loss reads which are right."""
        return self.nll_from if self.nll else None
