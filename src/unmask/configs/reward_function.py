"""Keys of your own reward function: the form it is called in, and how long a call may take."""

from typing import Literal, Self

from pydantic import Field, model_validator

from unmask.configs.section import Section

Signature = Literal["unmask", "trl", "trl_conversational", "verl", "verl_batch"]


def check_time_limit(signature: Signature, seconds: float | None, keys: tuple[str, str]) -> None:
    """Refuse a time limit of a function that runs in this process.

    Raises:
        ValueError: naming both keys.
    """
    if seconds is not None and signature == "unmask":
        name, limit = keys
        raise ValueError(
            f'{limit} = {seconds:g}: holds in a process of its own, which a function with {name} = "unmask" '
            "does not have; leave it out, or name another signature"
        )


class OwnRewardConfig(Section):
    """The keys of a reward that takes the place of the task's grader."""

    reward: str | None = None
    """Your own reward as `module:function`, in place of the grader; called as
    `function(prompt, response) -> float` unless `reward_signature` names another form."""
    reward_signature: Signature = "unmask"
    """How `reward` is called: `unmask`; in TRL's form, with texts (`trl`) or with messages
    (`trl_conversational`); or in verl's, for each response (`verl`) or for all of them (`verl_batch`). A
    function in the form of another library runs in a process of its own (docs/rewards.md)."""
    reward_time_limit_s: float | None = Field(default=None, gt=0, le=86_400)
    """Seconds that one call of such a function may take, by the clock; 300 when not given."""

    @model_validator(mode="after")
    def _has_its_reward(self) -> Self:
        keys = "reward_signature", "reward_time_limit_s"
        if self.reward is None and self.reward_signature != "unmask":
            raise ValueError(
                f'reward_signature = "{self.reward_signature}" without reward: name the function'
            )
        check_time_limit(self.reward_signature, self.reward_time_limit_s, keys)
        return self
