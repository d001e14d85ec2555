"""Options of the server: its limits, its key, and the defaults of requests."""

from dataclasses import dataclass, field
from typing import Annotated

from unmask.bounds import Bound, check_fields
from unmask.images import MOST_BYTES
from unmask.sampling_params import SamplingParams

DAY = 86400
# Of a request: an image in base64 is a third longer than its file.
MOST_BODY_BYTES, MOST_IMAGES, MOST_IMAGE_BYTES = 2**24, 8, 10 * 2**20


@dataclass(frozen=True, slots=True)
class ServerParams:
    """Options of a server.

    Attributes:
        model_name: the model's name in requests and answers.
        sampling: defaults of the fields that a request does not give; without a seed, one is drawn.

    Raises:
        ValueError: a value is not accepted, or weights may be updated without a key.
    """

    model_name: str
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_waiting: Annotated[int, Bound(ge=0, le=2**20)] = 256
    """Responses that wait while all sequences of the engine run; more are refused with 429."""
    request_seconds: Annotated[float, Bound(gt=0, le=DAY)] = 600.0
    """Most seconds from the arrival of a request to the end of its answer."""
    shutdown_seconds: Annotated[int, Bound(ge=1, le=DAY)] = 30
    """Most seconds that running requests have to end after SIGTERM."""
    max_body_bytes: Annotated[int, Bound(ge=1024, le=2**30)] = MOST_BODY_BYTES
    """Most bytes of a request's body."""
    max_images: Annotated[int, Bound(ge=0, le=2**20)] = MOST_IMAGES
    """Most images of a request."""
    max_image_bytes: Annotated[int, Bound(ge=1, le=MOST_BYTES)] = MOST_IMAGE_BYTES
    """Most bytes of an image's file."""
    max_pending: Annotated[int, Bound(ge=1, le=2**20)] = 1024
    """Events that one response may be ahead of its reader; a reader further behind loses its request."""
    api_key: str = ""
    """The key that requests must carry; none if empty."""
    updates_weights: bool = False
    """Whether `POST /admin/update_weights` exists."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_fields(self)
        if self.updates_weights and not self.api_key:
            raise ValueError("updates_weights: goes with an API key, since it changes the model")
