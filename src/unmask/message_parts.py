"""The content of a chat message in parts, texts and images, as OpenAI's and Hugging Face's layouts have them.

    {"type": "text", "text": "..."}
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}     or the URL itself
    {"type": "image", "image": ...}       also `path`, `url`, `base64`; without any, the next image of the record

How a source becomes an image is the caller's decision: a server reads no paths, a data set has a folder of its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from unmask.images import Image, image_from

# The keys of an image part that hold its source.
SOURCES = ("image", "path", "url", "base64")


def message_parts(
    content: Any,
    place: str,
    open_image: Callable[[Any, str], Image] = image_from,
    images: Iterable[Image] = (),
) -> tuple[str | Image, ...]:
    """Return the texts and images of a content, in order: arguments of `types.Message.of`.

    Args:
        content: a text, or a list of parts.
        place: of the content, for messages.
        open_image: called with the source of an image and its place.
        images: those of parts that have no source, in order.

    Raises:
        ValueError: naming the place of a part that is none of these, or as `open_image`; or there are more
            `images` than parts for them, or fewer.
    """
    if isinstance(content, str):
        return (content,)
    if not isinstance(content, Sequence) or isinstance(content, bytes) or not content:
        raise ValueError(f"{place}: must be a text or a list of parts, found {repr(content)[:80]}")
    waiting = iter(images)
    found = tuple(
        _part(part, f"{place}[{number}]", open_image, waiting)
        for number, part in enumerate(content)
    )
    if (unused := next(waiting, None)) is not None:
        raise ValueError(f"{place}: no part of type 'image' is left for {unused.name}")
    return found


def _part(
    part: Any, place: str, open_image: Callable[[Any, str], Image], waiting: Iterable[Image]
) -> str | Image:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(source)} | str(source)}:
            return open_image(source, place)
        case {"type": "image"}:
            return _image(part, place, open_image, waiting)
        case _:
            raise ValueError(
                f"{place}: must be a part of type text, image_url or image, with its content, found "
                f"{repr(part)[:80]}"
            )


def _image(
    part: Mapping[str, Any],
    place: str,
    open_image: Callable[[Any, str], Image],
    waiting: Iterable[Image],
) -> Image:
    given = {key: part[key] for key in SOURCES if part.get(key) is not None}
    if len(given) > 1:
        raise ValueError(f"{place}: has {' and '.join(given)}: must have one of them")
    if "base64" in given:
        return open_image(f"data:image/any;base64,{given['base64']}", place)
    if given:
        return open_image(next(iter(given.values())), place)
    image = next(iter(waiting), None)
    if image is None:
        raise ValueError(
            f"{place}: an image part without {', '.join(SOURCES)}, and no image is left"
        )
    return image
