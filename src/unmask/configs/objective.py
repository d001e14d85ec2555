"""`[advantage]`, `[objective]`, `[filter]`, `[reference]`: what RL makes of the rewards."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from unmask.configs.section import Section

Reduction = Literal["tokens", "sequence", "view", "constant"]
Method = Literal["trace", "random", "coupled"]


class AdvantageConfig(Section):
    """What a response's reward is compared with."""

    baseline: Literal["group_std", "group", "leave_one_out", "global"] = "group_std"
    """`group_std` is (reward - mean) / std over the answers to one prompt, as published; `group`
    leaves the std out, `leave_one_out` compares with the mean of the other answers, `global` is
    (reward - mean) / std over all answers of the step that are trained on."""
    overlong_penalty: float = Field(default=0.0, ge=0)
    """Taken off the reward of a response of `sampling.max_tokens` before it becomes an advantage;
    shorter ones lose less (DAPO's soft punishment)."""
    overlong_tokens: int = Field(default=64, ge=1)
    """The last tokens before `sampling.max_tokens` over which the penalty grows linearly from 0."""
    forfeit_tokens: int | None = Field(default=None, ge=0)
    """Responses that come within this many tokens of `sampling.max_tokens` earn 0, whatever they say,
    before filters and baseline; published: 5 for mathematics."""


class FilterConfig(Section):
    """Which groups of answers carry a gradient worth its cost."""

    low: float | None = None
    """Groups whose mean reward is below this are left out."""
    high: float | None = None
    """Groups whose mean reward is above this are left out."""
    drop_uniform: bool = True
    """Leave out groups in which every answer earned the same: their advantages are all zero."""
    max_mean_tokens: float | None = Field(default=None, gt=0)
    """Groups whose answers are longer than this on average are left out."""
    refill: int = Field(default=0, ge=0)
    """Most extra rounds of a step: each asks as many new prompts as groups were left out, until
    `rollout.prompts` groups are kept."""

    @model_validator(mode="after")
    def _ordered(self) -> "FilterConfig":
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        return self


class ReferenceConfig(Section):
    """The frozen model that `objective.kl_to = "reference"` measures from."""

    path: str | None = None
    """Directory in Hugging Face layout, or a hub id; the model the run starts from when not given."""


class ObjectiveConfig(Section):
    """The clipped surrogate, and the views it is taken over."""

    method: Method = "trace"
    """`trace` trains the states the sampler was in (TraceRL); `random` hides random tokens of the
    response, `coupled` also hides the others in a second view, with a ratio of its own (dLLM-RL's;
    DiffuCoder's coupled objective is another)."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """The probability ratio is clipped from below at 1 - clip_low; no effect in a step's first update."""
    clip_high: float = Field(default=0.2, gt=0)
    """The probability ratio is clipped from above at 1 + clip_high; no effect in a step's first update."""
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
    """`k3` is never negative and pulls back; `k1` is the difference of the log-probabilities."""
    kl_to: Literal["step", "reference"] = "step"
    """`step` is the policy that starts the step, `reference` a frozen model (`reference.path`)."""
    reduction: Reduction = "tokens"
    """What the loss is averaged over; `view` is the published choice for full attention, `constant`
    for block models, where the length is `sampling.max_tokens` (published: the longest response of
    the step)."""
    shrink: int = Field(default=1, ge=1)
    """Neighbouring reveals merged into one view: fewer views, coarser conditionals; of `trace`."""
    post_num: int = Field(default=0, ge=0)
    """Slots right of the stop token, counted over the response, that are trained as well. The stop
    token always is; published runs whose stop is the pad token (LLaDA) count it among these."""
    train_block: int | tuple[tuple[int, int], ...] | None = None
    """Block size the responses of block-causal models are trained in, a multiple of the rollouts'; or
    a schedule of [step, block] pairs, each from its step on. The rollouts' own when not given."""
    mask_low: float = Field(default=0.1, gt=0, le=1)
    """Lowest probability that `random` and `coupled` hide a token."""
    mask_high: float = Field(default=0.9, gt=0, le=1)
    """Highest such probability; each is drawn uniformly between the two."""
    mask_level: Literal["per_block", "per_token"] = "per_block"
    """`per_block` draws one such probability per block of a view (per view under full attention),
    `per_token` one per token (published for block models)."""
    mask_views: int = Field(default=1, ge=1, le=1024)
    """Random masks per response; `coupled` trains the complement of each as well."""

    @field_validator("train_block")
    @classmethod
    def _rising(
        cls, value: int | tuple[tuple[int, int], ...] | None
    ) -> int | tuple[tuple[int, int], ...] | None:
        pairs = ((1, value),) if isinstance(value, int) else value or ()
        steps = [step for step, _ in pairs]
        if any(step < 1 or block < 1 for step, block in pairs) or steps != sorted(set(steps)):
            raise ValueError(
                f"{value}: blocks are at least 1, and the steps they begin at at least 1 and rising"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "ObjectiveConfig":
        if self.mask_low > self.mask_high:
            raise ValueError(f"mask_low = {self.mask_low} is above mask_high = {self.mask_high}")
        if self.method != "trace" and self.shrink > 1:
            raise ValueError(
                f'shrink = {self.shrink} merges reveals, which only method = "trace" looks at'
            )
        return self

    @property
    def has_engine_views(self) -> bool:
        """Whether the learner's views are those the sampler saw, so that both score the same thing."""
        return self.method == "trace" and self.shrink == 1 and self.train_block is None

    def train_block_at(self, step: int) -> int | None:
        """Return the block size of RL step `step`, counted from 1; None is the rollouts'."""
        if self.train_block is None or isinstance(self.train_block, int):
            return self.train_block
        return next((b for start, b in reversed(self.train_block) if start <= step), None)

    @property
    def train_blocks(self) -> tuple[int, ...]:
        """Every block size the run trains in, beside the rollouts' own."""
        if isinstance(self.train_block, int):
            return (self.train_block,)
        return tuple(block for _, block in self.train_block or ())
