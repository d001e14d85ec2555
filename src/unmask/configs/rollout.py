"""`[rollout]`: how many trajectories make an RL step."""

from pydantic import Field

from unmask.configs.section import Section


class RolloutConfig(Section):
    """How many trajectories make an RL step."""

    prompts: int = Field(default=64, ge=1, le=2**16)
    """Prompts per step."""
    responses: int = Field(default=8, ge=2, le=2**12)
    """Responses per prompt; they are each other's baseline."""
