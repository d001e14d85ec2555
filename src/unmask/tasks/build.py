"""From a `[task]` section to its task: the one place that knows every kind."""

from unmask.configs.task import DatasetTaskConfig, JsonTaskConfig, ReasoningGymConfig, TaskConfig
from unmask.tasks.json_task import build_json_task
from unmask.tasks.public_datasets import build_dataset_task
from unmask.tasks.reasoning_gym import build_reasoning_gym_task
from unmask.tasks.task import NO_TASK, Task


def build_task(config: TaskConfig | None) -> Task:
    """Make the task a config describes; without a config, one without prompts.

    Raises:
        ValueError: naming key and value, where it cannot be made.
    """
    match config:
        case None:
            return NO_TASK
        case ReasoningGymConfig():
            return build_reasoning_gym_task(config)
        case JsonTaskConfig():
            return build_json_task(config)
        case DatasetTaskConfig():
            return build_dataset_task(config)
