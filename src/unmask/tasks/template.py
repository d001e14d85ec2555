"""The text around a question.

A template is a format with one field, `{question}`. `str.format` fills it and never reads the question
itself as a format, so its braces stay as they are.
"""


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
