"""A sample of a step's trajectories, as lines of `trajectories.jsonl`."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from unmask.engine.llm import LLM
from unmask.runs.trajectories import grid_ids, trajectory_record
from unmask.types import Group


def rollout_records(
    groups: Sequence[Group], llm: LLM, limit: int, step: int
) -> Iterator[dict[str, Any]]:
    """Yield at most `limit` trajectories as JSON objects: the first of every prompt, then the second ones."""
    numbered = ((group, index) for index in range(len(groups[0].trajectories)) for group in groups)
    for group, index in islice(numbered, limit):
        trajectory = group.trajectories[index]
        yield trajectory_record(
            trajectory,
            llm.text(trajectory),
            group.rewards[index],
            {name: values[index] for name, values in group.parts.items()},
            step,
            llm.pieces(grid_ids(trajectory)),
        )
