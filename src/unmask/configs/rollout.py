"""`[rollout]`, `[filter]`, `[shaping]`: the responses of an RL step, and what of their rewards counts."""

from typing import Literal

from pydantic import Field, model_validator

from unmask.configs.section import Section


class RolloutConfig(Section):
    """How many trajectories make an RL step."""

    prompts: int = Field(default=64, ge=1, le=2**16)
    """Prompts per step."""
    responses: int = Field(default=8, ge=2, le=2**12)
    """Responses per prompt; they are each other's baseline."""
    drafts: int = Field(default=0, ge=0, le=2**12)
    """Drafts of each response that are graded and trained on in its place (wd1++): what the policy writes at
    once given the tokens revealed before a drawn denoising step. 0 trains on the responses."""
    workers: int = Field(default=0, ge=0, le=2**12)
    """Engines in processes of their own that write the responses, on Ray; 0 writes them in the training
    process. Needs the extra `ray`."""
    staleness: int = Field(default=0, ge=0, le=2**10)
    """Most weight updates between the weights that write a response and those that are trained on it. At 0
    rollouts and updates take turns; at k the batches of the next k steps are written meanwhile."""
    partial: bool = False
    """Unfinished responses continue under new weights as soon as there are some, and each of their tokens
    has its own policy version; otherwise the weights of a response never change."""

    @model_validator(mode="after")
    def _workers_fit(self) -> "RolloutConfig":
        if self.staleness and not self.workers:
            raise ValueError(
                f"staleness = {self.staleness} needs engines that write during an update: set "
                "rollout.workers = 1 or more, or rollout.staleness = 0"
            )
        if self.drafts and self.workers:
            raise ValueError(
                f"drafts = {self.drafts} are written in the training process: set rollout.workers = 0, or "
                "rollout.drafts = 0"
            )
        if self.partial and not self.staleness:
            raise ValueError(
                "partial = true has no effect with staleness = 0, where no response is unfinished when "
                "weights change: set rollout.staleness = 1 or more, or rollout.partial = false"
            )
        return self


class FilterConfig(Section):
    """Which groups of responses are trained on."""

    number: Literal["reward", "outcome"] = "reward"
    """The number of each response that `low`, `high` and `drop_uniform` look at: its reward, or the result
    of the task's grader, which a judge's labels do not change. Captions (`is_caption`) have no such
    result, and with `outcome` none is left out by it."""
    low: float | None = None
    """Groups whose mean is below this are left out; published for models that read images: 0.05."""
    high: float | None = None
    """Groups whose mean is above this are left out; published for models that read images: 0.95."""
    drop_uniform: bool = True
    """Leave out groups in which every response has the same: of rewards, their advantages are all zero."""
    max_mean_tokens: float | None = Field(default=None, gt=0)
    """Groups whose responses are longer than this on average are left out."""
    refill: int = Field(default=0, ge=0)
    """Most extra rounds of a step: each samples as many new prompts as groups were left out, until
    `rollout.prompts` groups are kept."""

    @model_validator(mode="after")
    def _ordered(self) -> "FilterConfig":
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        return self


class ShapingConfig(Section):
    """What the length of a response costs."""

    overlong_penalty: float = Field(default=0.0, ge=0)
    """Taken off the reward of a response of `sampling.max_tokens` before it becomes an advantage;
    shorter ones lose less (DAPO's soft punishment)."""
    overlong_tokens: int = Field(default=64, ge=1)
    """The last tokens before `sampling.max_tokens` over which the penalty grows linearly from 0."""
    forfeit_tokens: int | None = Field(default=None, ge=0)
    """Responses that come within this many tokens of `sampling.max_tokens` earn 0, whatever they say,
    before filters and baseline; published: 5 for mathematics."""
