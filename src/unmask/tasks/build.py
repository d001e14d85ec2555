"""Builds the task of a `[task]` section."""

from unmask.configs.task import (
    DatasetTaskConfig,
    JsonTaskConfig,
    PictureTaskConfig,
    ReasoningGymConfig,
    TaskConfig,
)
from unmask.tasks.json_task import build_json_task
from unmask.tasks.picture_task import build_picture_task
from unmask.tasks.public_datasets import build_dataset_task
from unmask.tasks.reasoning_gym import build_reasoning_gym_task
from unmask.tasks.task import NO_TASK, Task


def build_task(config: TaskConfig | None) -> Task:
    """Build the task of a config; without a config, one without prompts.

    Raises:
        ValueError: naming the key and value that prevent it.
    """
    match config:
        case None:
            return NO_TASK
        case ReasoningGymConfig():
            return build_reasoning_gym_task(config)
        case PictureTaskConfig():
            return build_picture_task(config)
        case JsonTaskConfig():
            return build_json_task(config)
        case DatasetTaskConfig():
            return build_dataset_task(config)
