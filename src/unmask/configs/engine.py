"""`[engine]`: how large the engine is."""

from pydantic import Field

from unmask.configs.section import Section


class EngineConfig(Section):
    """How large the engine is; no result depends on it."""

    slots: int = Field(default=256, ge=1)
    """Responses written at the same time."""
