"""`advantage.kind = "progress"`: advantages that the views of drafts come with, as those of a group."""

from unmask.trainers.methods.group import build

__all__ = ["build"]
