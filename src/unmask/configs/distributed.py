"""`[distributed]`: how the processes of a run share its weights, and how long they wait for each other."""

from pydantic import Field

from unmask.configs.section import Section


class DistributedConfig(Section):
    """How the processes of a run share its weights, and how long they wait for each other."""

    shard: int | None = Field(default=None, ge=1, le=2**16)
    """Processes that hold one copy of weights, masters and moments together, a divisor of their number:
    1 gives each a whole copy; all of them share one if not given."""
    timeout_minutes: float = Field(default=30.0, gt=0, le=10**6)
    """Longest wait for another process, after which the run ends; longer than the processes differ in the
    time of a step's responses and gradings."""
