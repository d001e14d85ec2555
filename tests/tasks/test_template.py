"""Only the template is a format: braces of a question stay as they are."""

import pytest

from unmask.tasks.template import check_template


def test_braces_of_a_question_stay() -> None:
    template = "{question} Use \\boxed{{}}."
    check_template(template)
    assert template.format(question="Is {x} in {0}?") == "Is {x} in {0}? Use \\boxed{}."


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Solve.", "is missing"),
        ("{question} \\boxed{}", "twice"),
        ("{question} {hint}", "hint"),
        ("{question", "twice"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"task\.template = .*{message}"):
        check_template(template)
