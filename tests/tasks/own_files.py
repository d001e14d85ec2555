"""Files of people's own problems: written, read as a task and graded as a run would."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from unmask.configs.task import JsonTaskConfig
from unmask.tasks.build import build_task
from unmask.types import Prompt, Reward


def write(place: Path, records: Sequence[Any]) -> Path:
    """Write records as JSON Lines and return the path."""
    path = place / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def prompts(place: Path, records: Sequence[Any], **keys: Any) -> Sequence[Prompt]:
    """Return the prompts of records."""
    config = JsonTaskConfig(train=write(place, records), **keys)
    with closing(build_task(config)) as task:
        return task.prompts("train")


def rewards(
    place: Path, records: Sequence[Any], responses: Sequence[str], **keys: Any
) -> list[Reward]:
    """Return the rewards of one response to each record."""
    with closing(build_task(JsonTaskConfig(test=write(place, records), **keys))) as task:
        scores = task.grade(list(zip(task.prompts("test"), responses, strict=True)))
    return [score.reward for score in scores]
