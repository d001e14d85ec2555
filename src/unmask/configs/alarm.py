"""`[alarm]`: what in a training run deserves a warning."""

from pydantic import Field

from unmask.configs.section import Section


class AlarmConfig(Section):
    """Bounds whose crossing is printed once on the terminal, and logged at every step."""

    logprob_gap: float | None = Field(default=None, gt=0)
    """Most that engine and learner may differ in any log-probability before the update; when not
    given 1e-3, 0.5 for bfloat16 weights, or 0 with `model.batch_invariant`."""
    groups_kept: float = Field(default=0.02, ge=0, le=1)
    """Fewest groups, as a share, with anything to learn from; fewer means the answers to a prompt
    all earn the same."""
    empty_steps: int = Field(default=20, ge=0)
    """Steps in a row without a single group to train on that stop the run, its state kept; 0 never."""
