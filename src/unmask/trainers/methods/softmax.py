"""`advantage.kind = "softmax"`: advantages that the views come with, as those of a group."""

from unmask.trainers.methods.group import build

__all__ = ["build"]
