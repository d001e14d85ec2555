"""A sample of a step's trajectories, as lines of `trajectories.jsonl`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unmask.engine.llm import LLM
from unmask.rollouts.collect import drawings_of
from unmask.runs.images import keep_images
from unmask.runs.trajectories import grid_ids, image_record, prompt_images, trajectory_record
from unmask.types import Group


def rollout_records(
    groups: Sequence[Group],
    llm: LLM,
    limit: int,
    step: int,
    advantages: Mapping[int, Sequence[float]] = MappingProxyType({}),
    directory: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield at most `limit` trajectories as JSON objects: the first of every prompt, then the second ones.

    Args:
        groups: of the step.
        llm: that wrote them.
        limit: most records.
        step: optimizer step.
        advantages: by `id` of a trajectory, one per position; those that are not trained on have none.
        directory: of the run, which keeps the images of the records.

    Raises:
        ValueError, OSError: as `keep_images`.
    """
    numbered = ((group, index) for index in range(len(groups[0].trajectories)) for group in groups)
    for group, index in islice(numbered, limit):
        trajectory = group.trajectories[index]
        record = trajectory_record(
            trajectory,
            llm.text(trajectory),
            group.rewards[index],
            {name: values[index] for name, values in group.parts.items()},
            step,
            llm.pieces(grid_ids(trajectory)),
        )
        if found := advantages.get(id(trajectory)):
            # One number where all positions share it.
            record["advantages"] = found[0] if len(set(found)) == 1 else list(found)
        if directory:
            (drawing,) = drawings_of(llm, [trajectory])
            images = prompt_images(trajectory.prompt)
            if drawing:
                record["drawing"] = image_record(drawing)
                images.append(drawing)
            keep_images(directory, images)
        yield record
