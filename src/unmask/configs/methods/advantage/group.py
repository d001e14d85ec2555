"""`advantage.kind = "group_std"` and its like: a reward compared with those of other responses."""

from typing import ClassVar, Literal

from unmask.configs.methods import Source
from unmask.configs.section import Section
from unmask.types import Baseline


class GroupAdvantage(Section):
    """One advantage per response."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    has_value_model: ClassVar[bool] = False
    kind: Literal["group_std", "group", "leave_one_out", "global", "none"] = "group_std"
    """What a reward is compared with: `group_std` is (reward - mean) / std over the responses to one
    prompt, as published; `group` leaves the std out, `leave_one_out` compares with the mean of the
    other responses, `global` is (reward - mean) / std over all responses of the step that are trained
    on, `none` is the reward itself; `value` and `shared_value` give each token an advantage of its
    own, by a value model with a backbone of its own or on the policy's."""

    @property
    def baseline(self) -> Baseline:
        """The baseline of a response's reward."""
        return self.kind
