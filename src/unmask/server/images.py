"""Images in the messages of a request: data URLs within the limits of the server.

A server opens no file and fetches no address that a request names: both would read, in the name of the server,
what its clients cannot reach themselves.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from unmask.images import Image, image_from
from unmask.server.params import ServerParams


def image_opener(params: ServerParams) -> Callable[[Any, str], Image]:
    """Return the function that opens the images of one request, as `message_parts` takes it.

    It raises a ValueError, naming the place of the image, for anything that is not a data URL, an image with
    too many bytes, and more images than a request may have.
    """
    numbers = count(1)

    def open_image(source: Any, place: str) -> Image:
        if not isinstance(source, str) or not source.startswith("data:"):
            raise ValueError(
                f"{place}: an image must be a data URL, data:image/png;base64,...: the server opens no files and "
                "fetches no URLs"
            )
        if next(numbers) > params.max_images:
            raise ValueError(
                f"{place}: a request may have {params.max_images} images, and this is one more"
            )
        image = image_from(source, place)
        if len(image.data) > params.max_image_bytes:
            raise ValueError(
                f"{place}: the image has {len(image.data)} bytes, and the limit is {params.max_image_bytes}"
            )
        return image

    return open_image
