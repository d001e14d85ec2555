"""Generated pictures as files: PNG, and JSON Lines in dLLM-RL's fields, which `task.kind = "json"` reads."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unmask.configs.task import PictureTaskConfig
from unmask.images import MARKER
from unmask.tasks.picture_task import build_picture_task
from unmask.types import Prompt, Split


@dataclass(frozen=True, slots=True)
class PictureFiles:
    """The files of a split.

    Attributes:
        split: its split.
        lines: the problems, one per line; `image` is relative to their file.
        images: contents by the names of that field.
    """

    split: Split
    lines: str
    images: Mapping[str, bytes]


def picture_files(config: PictureTaskConfig) -> Iterator[PictureFiles]:
    """Yield the files of each split that has problems."""
    task = build_picture_task(config)
    shares: dict[Split, float] = {
        "train": 1.0,
        "validation": config.validation_share,
        "test": config.test_share,
    }
    for split, share in shares.items():
        if not share:
            continue
        prompts = task.prompts(split)
        lines = [json.dumps(_record(prompt)) for prompt in prompts]
        images = {_path(prompt): prompt.messages[0].images[0].data for prompt in prompts}
        yield PictureFiles(split, "".join(f"{line}\n" for line in lines), images)


def _record(prompt: Prompt) -> dict[str, str]:
    (message,) = prompt.messages
    question = message.content.removeprefix(f"{MARKER}\n")
    answer = prompt.reference["answer"]
    return {"question": question, "ground_truth_answer": answer, "image": _path(prompt)}


def _path(prompt: Prompt) -> str:
    return f"images/{prompt.messages[0].images[0].digest.hex()}.png"
