"""Events of a tick: tokens that running requests have committed, and requests that finished."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from unmask.types import Trajectory

Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True, slots=True)
class Committed:
    """Tokens of finished blocks of a running request that was submitted with `streams = True`.

    Attributes:
        request_id: the number that `submit` returned.
        token_ids: response tokens that follow those of the request's earlier events; they never change.
    """

    request_id: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """A request that ended.

    Attributes:
        request_id: the number that `submit` returned.
        result: what was written, or the error that ended it.
    """

    request_id: int
    result: Result | ValueError


Event = Committed | Finished[Trajectory]
