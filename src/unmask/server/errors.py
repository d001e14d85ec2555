"""Errors of the HTTP interface, in OpenAI's shape: message, type, the field at fault and a code."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unmask.sampling_params import SamplingParams

TYPES = {429: "rate_limit_error", 500: "server_error", 503: "server_error", 504: "timeout_error"}


@dataclass
class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status.
        message: one sentence for the user.
        param: the field of the body at fault, if it is one.
        code: a word for programs.
        headers: of the answer.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def body(self) -> dict[str, Any]:
        """Return the JSON object of the answer."""
        error = {
            "message": self.message,
            "type": TYPES.get(self.status, "invalid_request_error"),
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def refusal(error: ValueError, param: str | None = None) -> ApiError:
    """Return the answer to a value that is not accepted.

    Args:
        error: of `SamplingParams` or the engine; the first of its fields in the message is at fault.
        param: the field at fault where the message has none.
    """
    fields = SamplingParams.__dataclass_fields__
    named = (word for word in re.findall(r"\w+", str(error)) if word in fields)
    return ApiError(400, str(error), next(named, param), "invalid_value")
