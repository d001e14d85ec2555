"""The words around a question.

A template is a format with one field, `{question}`. The question itself is never read as a format,
so its braces stand for themselves.
"""


def check_template(template: str) -> None:
    """Refuse a template that a question does not fit into.

    Raises:
        ValueError: it has no `{question}`, or another field.
    """
    marker = "{the question}"
    try:
        has_question = marker in template.format(question=marker)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"task.template = {template!r}: only {{question}} can be filled in ({error!r}); "
            "write a brace that stands for itself twice"
        ) from error
    if not has_question:
        raise ValueError(f"task.template = {template!r}: {{question}} is missing")


def fill(template: str, question: str) -> str:
    """Put a question into a checked template."""
    return template.format(question=question)
