"""How large an engine is, and how it runs: what does not depend on any request."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineParams:
    """Size and mode of an engine.

    Attributes:
        max_slots: responses written at the same time.
        fuses_commit: write a finished block's clean keys and values in the first pass of the next
            block. Exact either way; without it every block costs one more forward pass.
    """

    max_slots: int = 256
    fuses_commit: bool = True

    def __post_init__(self) -> None:
        """Refuse an engine without room for one response."""
        if self.max_slots < 1:
            raise ValueError(f"max_slots = {self.max_slots}: must be at least 1")
