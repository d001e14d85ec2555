"""The keys that every kind of `[views]` has: which positions are trained, and in which blocks."""

from typing import ClassVar

from pydantic import Field, field_validator

from unmask.configs.methods import Source
from unmask.configs.section import Section

# Block sizes, each from a step on.
Schedule = tuple[tuple[int, int], ...]


class ViewSection(Section):
    """Trained positions and blocks."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    has_noise_levels: ClassVar[bool] = False
    """Whether tokens are hidden with a known probability, as the ELBO needs."""
    is_causal: ClassVar[bool] = False
    """Whether a sequence is laid out in blocks of one token, whatever the model's attention."""
    post_num: int = Field(default=0, ge=0)
    """Positions right of the stop token, counted over the response, that are trained as well. The stop
    token always is; published runs whose stop is the pad token (LLaDA) count it among these."""
    train_block: int | Schedule | None = None
    """Block size that block-causal models are trained in: a multiple of the rollouts', in RL; or a
    schedule of [step, block] pairs, each from its step on. The model's own when not given."""

    @field_validator("train_block")
    @classmethod
    def _rising(cls, value: int | Schedule | None) -> int | Schedule | None:
        pairs = _schedule_of(value)
        steps = [step for step, _ in pairs]
        if any(step < 1 or block < 1 for step, block in pairs) or steps != sorted(set(steps)):
            raise ValueError(
                f"{value}: blocks are at least 1, and the steps they begin at at least 1 and rising"
            )
        return value

    def refusal(self, is_full: bool, is_shifted: bool) -> str | None:
        """Return why a kind of model cannot be trained on these views; None if it can.

        Args:
            is_full: whether the model's attention is full.
            is_shifted: whether it predicts a token in the row before it.
        """
        if self.train_blocks and is_full:
            return f"views.train_block = {self.train_blocks[0]} is for block-causal models"
        return None

    @property
    def needs_step_map(self) -> bool:
        """Whether demonstrations and answers of pairs are trained in their recorded order."""
        return False

    @property
    def is_sampler_path(self) -> bool:
        """Whether the views are the states the sampler was in, so that both score the same thing."""
        return False

    def train_block_at(self, step: int) -> int | None:
        """Return the block size of step `step`, counted from 1; None is the rollouts' or the model's."""
        pairs = reversed(_schedule_of(self.train_block))
        return next((block for start, block in pairs if start <= step), None)

    @property
    def train_blocks(self) -> tuple[int, ...]:
        """Every block size that `train_block` names."""
        return tuple(block for _, block in _schedule_of(self.train_block))


def _schedule_of(train_block: int | Schedule | None) -> Schedule:
    """Return the [step, block] pairs of a value of `train_block`."""
    return ((1, train_block),) if isinstance(train_block, int) else train_block or ()
