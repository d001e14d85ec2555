"""The configuration of `unmask grade`."""

from typing import Literal

from unmask.configs.section import Section
from unmask.configs.task import TaskConfig


class GradeConfig(Section):
    """Grading responses that another program wrote."""

    task: TaskConfig
    """Which problems were asked, and how answers are graded."""
    split: Literal["train", "validation", "test"] = "test"
    """Which problems."""
