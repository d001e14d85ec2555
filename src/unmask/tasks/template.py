"""The text around a question.

A template is a format with one field, `{question}`. `str.format` fills it and never reads the question
itself as a format, so its braces stay as they are. Images that a question begins with stay in front of the whole
text, as the published pipelines have them.
"""

import re

from unmask.images import MARKER

LEADING = re.compile(rf"(?:{MARKER}\n)*")


def filled(template: str, question: str, has_images: bool = False) -> str:
    """Return the text of a question; the markers that begin one with images begin the text."""
    found = LEADING.match(question) if has_images else None
    front = found[0] if found else ""
    return front + template.format(question=question[len(front) :])


def check_template(template: str) -> None:
    """Refuse a template that cannot be filled with a question.

    Raises:
        ValueError: it has no `{question}`, or another field.
    """
    marker = "{the question}"
    try:
        has_question = marker in template.format(question=marker)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"task.template = {template!r}: only {{question}} can be filled in ({error!r}); "
            "write a literal brace twice"
        ) from error
    if not has_question:
        raise ValueError(f"task.template = {template!r}: {{question}} is missing")
