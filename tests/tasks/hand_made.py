"""Three hand-made records of a data set, read from a file and graded as a real copy would be."""

import json
from base64 import b64encode
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task
from unmask.types import Split


def write(place: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Write records as JSON Lines, the bytes of images as base64, and return the path."""

    def as_url(data: bytes) -> str:
        return f"data:image/png;base64,{b64encode(data).decode()}"

    path = place / "records.jsonl"
    path.write_text("\n".join(json.dumps(record, default=as_url) for record in records))
    return path


def rewards(
    name: str, place: Path, records: Sequence[dict[str, Any]], responses: Sequence[str]
) -> list[float]:
    """Write the records as the data set's only file, and grade one response to each."""
    path = write(place, records)
    with closing(build_task(DatasetTaskConfig(name=name, path=path))) as task:
        prompts = task.prompts("test")
        assert len(prompts) == len(records)
        scores = task.grade(list(zip(prompts, responses, strict=True)))
    return [score.reward for score in scores]


def contents(name: str, path: Path, split: Split) -> list[str]:
    """Return what the model is asked."""
    task = build_task(DatasetTaskConfig(name=name, path=path))
    return [prompt.messages[0].content for prompt in task.prompts(split)]
