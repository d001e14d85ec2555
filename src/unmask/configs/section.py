"""The base class of all sections: a frozen record that refuses unknown keys."""

from dataclasses import is_dataclass
from inspect import get_annotations
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from unmask.bounds import LARGEST


class Section(BaseModel):
    """A frozen group of keys. The sentence under each field is its help text (`unmask config rl --keys`).

    A section may inherit its fields, with their bounds and sentences, from a frozen dataclass: the
    record that the engine or a model takes.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Annotate inherited dataclass fields with their sentences: pydantic reads those of `cls` only."""
        super().__init_subclass__(**kwargs)
        for base in cls.__bases__:
            if not is_dataclass(base):
                continue
            fields = get_annotations(base)
            model = create_model("Sentences", __config__=cls.model_config, base=(base, ...))
            documented = model.model_json_schema()["$defs"][base.__name__]["properties"]
            for name, field in documented.items():
                sentence = Field(description=field["description"])
                cls.__annotations__[name] = Annotated[fields[name], sentence]

    @field_validator("*")
    @classmethod
    def _is_bounded(cls, value: Any) -> Any:
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int | float) and abs(number) > LARGEST:
                raise ValueError(f"{number} is too large: at most {LARGEST}")
        return value
