"""What every section of a configuration is: a frozen record in which an unknown key is an error."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

# Numbers beyond it overflow in the libraries below, or are refused only once memory has run out. Keys
# that cost memory or threads have lower bounds of their own.
LARGEST = 2**32 - 1


class Section(BaseModel):
    """A frozen group of keys. The sentence under each field is its help text (`unmask config rl --keys`)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @field_validator("*")
    @classmethod
    def _is_bounded(cls, value: Any) -> Any:
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int | float) and abs(number) > LARGEST:
                raise ValueError(f"{number} is too large: at most {LARGEST}")
        return value
