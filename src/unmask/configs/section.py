"""What every section of a configuration is: a frozen record in which an unknown key is an error."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of keys. The sentence under each field is its help text (`unmask config rl --keys`)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )
