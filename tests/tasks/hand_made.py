"""Three hand-made records of a data set, read from a file and graded as a real copy would be."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task
from unmask.types import Split


def rewards(
    name: str, place: Path, records: Sequence[dict[str, Any]], responses: Sequence[str]
) -> list[float]:
    """Write the records as the data set's only file, and grade one response to each."""
    path = place / "records.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    with closing(build_task(DatasetTaskConfig(name=name, path=path))) as task:
        prompts = task.prompts("test")
        assert len(prompts) == len(records)
        scores = task.grade(list(zip(prompts, responses, strict=True)))
    return [score.reward for score in scores]


def contents(name: str, path: Path, split: Split) -> list[str]:
    """Return what the model is asked."""
    task = build_task(DatasetTaskConfig(name=name, path=path))
    return [prompt.messages[0].content for prompt in task.prompts(split)]
