"""A judge's question about an answer: the filled template, and the images of the prompt.

In the text, `[image 1]` stands in the place of the first of the prompt's different images. An answer that is
an image follows those of the prompt.

Each inserted text stands between marks that contain a hash of it. A response cannot contain its own
hash, so it cannot close its mark and add instructions to the judge. The same text has the same marks,
so a repeated question finds its reply in the cache.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from unmask.images import MARKER, Image
from unmask.rewards.weighted import Answer
from unmask.types import Message, Prompt


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a judge.

    Attributes:
        text: the filled template.
        images: those of the prompt, and the answer if it is one, each once.
    """

    text: str
    images: tuple[Image, ...] = ()


def marked(name: str, text: str) -> str:
    """Return a text between marks that the text itself cannot contain."""
    mark = f"{name}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"
    return f"<{mark}>\n{text}\n</{mark}>"


def question_images(prompt: Prompt) -> tuple[Image, ...]:
    """Return the different images of a prompt, in the order of their first markers."""
    return tuple(dict.fromkeys(image for turn in prompt.messages for image in turn.images))


def question_text(prompt: Prompt) -> str:
    """Return the question of a prompt; with roles if there is more than one turn."""
    images = question_images(prompt)
    turns = [(turn.role, _numbered(turn, images)) for turn in prompt.messages]
    return turns[0][1] if len(turns) == 1 else "\n\n".join(f"{who}: {text}" for who, text in turns)


def _numbered(turn: Message, images: Sequence[Image]) -> str:
    """Return the text of a turn with the number of each image in place of its marker."""
    if not turn.images:
        return turn.content  # without images, markers are plain text
    first, *rest = turn.content.split(MARKER)
    marks = [f"[image {images.index(image) + 1}]" for image in turn.images]
    return first + "".join(mark + text for mark, text in zip(marks, rest, strict=True))


def is_caption(prompt: Prompt) -> bool:
    """Return whether a prompt asks for a caption of its image, which has no right answer."""
    return bool(prompt.reference.get("is_caption"))


def reference_text(prompt: Prompt) -> str:
    """Return the reference answer; the whole reference as JSON if it has no `answer`."""
    reference = prompt.reference
    if "answer" in reference:
        return str(reference["answer"])
    return json.dumps(dict(reference), default=str, sort_keys=True) if reference else ""


def fill(template: str, answer: Answer, **texts: str) -> Question:
    """Return a question about an answer.

    Args:
        template: with fields in braces; checked by `configs.reward`.
        answer: source of the fields `question`, `reference`, `response` and `outcome`.
        texts: further fields, which may replace those; marked in the same way.
    """
    images, response = question_images(answer.prompt), answer.text
    if answer.drawing is not None:
        images = tuple(dict.fromkeys((*images, answer.drawing)))
        response = f"[image {images.index(answer.drawing) + 1}]"
    fields = {
        "question": question_text(answer.prompt),
        "reference": reference_text(answer.prompt),
        "response": response,
        **texts,
    }
    marks = {name: marked(name, text) for name, text in fields.items()}
    text = template.format(**marks, outcome=f"{answer.outcome_reward:g}")
    return Question(text, images)
