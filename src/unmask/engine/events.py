"""Events of a tick: writes of denoising steps, tokens of finished blocks, and requests that finished."""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from unmask.types import Trajectory

Result = TypeVar("Result", covariant=True)
# What ticks return of a running request: `Committed`, or `Committed` and `Written`.
Streams = Literal["text", "canvas"]


@dataclass(frozen=True, slots=True)
class Committed:
    """Tokens of finished blocks of a running request that was submitted with `streams`.

    Attributes:
        request_id: the number that `submit` returned.
        token_ids: response tokens that follow those of the request's earlier events; they never change.
    """

    request_id: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What one denoising step wrote, for a request that was submitted with `streams = "canvas"`.

    Laid in order over a canvas of masks and pinned tokens, the writes of a request give `canvas_ids`,
    `step_map` and `behavior_logprobs` of its trajectory. A position is written again where an edit replaces
    its token. A position that is masked again is a write of the mask id with log-probability and
    confidence 0, and denoising step 0 in the step map. A denoising step that wrote nothing has no event.

    Attributes:
        request_id: the number that `submit` returned.
        step: the denoising step, counted from 1 over the whole response.
        positions: relative to the first response token, ascending; those past the end of the response
            are part of the canvas.
        token_ids: one per position.
        logprobs: of the tokens under the distribution they were drawn from.
        confidences: the model's own probabilities of the tokens.
    """

    request_id: int
    step: int
    positions: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    confidences: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """A request that ended.

    Attributes:
        request_id: the number that `submit` returned.
        result: what was written, or the error that ended it.
    """

    request_id: int
    result: Result | ValueError


def streams_of(streams: Streams | bool | None) -> Streams | None:
    """Return the kind of events that `submit` was asked for; `True` is `text`.

    Raises:
        ValueError: it is none of them.
    """
    kinds: dict[object, Streams | None] = {None: None, False: None, True: "text"}
    kinds |= {"text": "text", "canvas": "canvas"}
    if streams not in kinds:
        raise ValueError(f"streams = {streams!r}: must be 'text', 'canvas' or None")
    return kinds[streams]


Event = Written | Committed | Finished[Trajectory]
