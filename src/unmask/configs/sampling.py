"""`[sampling]`: how responses are unmasked.

The values of a preset are filled in when the section is read, below the keys that are given. The
resolved configuration holds the values themselves, so that a stored one keeps its meaning when presets
change.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import field_validator, model_validator

from unmask.configs.section import Section
from unmask.presets import PRESETS
from unmask.sampling_params import SamplingFields, SamplingParams


def with_preset(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given keys, with the values of the preset they name where a key is not given."""
    return {**PRESETS.get(str(stated.get("preset")), {}), **stated}


class SamplingConfig(Section, SamplingFields):  # pyright: ignore[reportGeneralTypeIssues] - frozen by pydantic
    """How responses are unmasked."""

    preset: str | None = None
    """A published sampler, whose values are the defaults of the other keys: `sdar`, `sdar_static`,
    `dllm_rl_jetengine`, `llada_official`, `mmada_official`, `mmada_image`, `fastdllm_v1`,
    `fastdllm_factor`, `lladav_official`, `dream_official`, `diffucoder_official`, `llada2`, `llada2_1`, `fastdllm_v2`,
    `sglang_lowconf`."""

    @model_validator(mode="before")
    @classmethod
    def _lay_preset_below(cls, values: Any) -> Any:
        return with_preset(values) if isinstance(values, Mapping) else values

    @field_validator("preset")
    @classmethod
    def _check_preset(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise ValueError(f"{name!r} must be one of {', '.join(PRESETS)}")
        return name

    @model_validator(mode="after")
    def _can_be_structured(self) -> "SamplingConfig":
        self.check_structure()
        return self

    def to_params(self, **changes: Any) -> SamplingParams:
        """Return the engine's record of these settings, with `changes` (such as seed and n)."""
        return SamplingParams(**{**self.model_dump(exclude={"preset"}), **changes})
