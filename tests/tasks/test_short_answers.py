"""Choices and short answers: truth tables of real answers, perturbed ones, and attempts to be paid for nothing."""

import string
from contextlib import closing

import pytest

from unmask.configs.task import DatasetTaskConfig
from unmask.images import Image
from unmask.tasks.short_answers import (
    LETTERS,
    build_grader,
    chosen_letter,
    image_problem,
    is_short_answer,
    listed,
)
from unmask.types import Prompt

COLOURS = ["red", "light blue", "green", "a yellow square"]


def test_the_options_are_lines() -> None:
    assert listed(["red", "blue"]) == "A. red\nB. blue"


def test_images_stand_in_front_of_the_question() -> None:
    images = [Image("a", b"A"), Image("b", b"B")]
    problem = image_problem(images, "Which?", {"answer": "A"})
    assert problem.question == "<image>\n<image>\nWhich?"
    assert problem.images == (*images,)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        # A letter alone.
        ("B", "B"),
        (" B ", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("(B).", "B"),
        ("B:", "B"),
        ("**B**", "B"),
        ('"B"', "B"),
        ("$B$", "B"),
        (r"\boxed{B}", "B"),
        (r"It is small. \boxed{\text{B}}", "B"),
        ("<answer>B</answer>", "B"),
        ("A or C? No. </think>B", "B"),
        # The text of an option.
        ("light blue", "B"),
        ("Light Blue.", "B"),
        ("the light  blue", "B"),
        ("yellow square", "D"),
        # A letter with text.
        ("B. light blue", "B"),
        ("(B) light blue", "B"),
        ("B) Light blue.", "B"),
        ("B. It is not as dark as the others.", "B"),
        ("A.One", "A"),
        # A stated letter.
        ("The answer is B", "B"),
        ("The answer is B.", "B"),
        ("The answer is (B) light blue.", "B"),
        ("The correct answer is **B**, as the sky shows.", "B"),
        ("Answer: B", "B"),
        ("The answer is option B", "B"),
        ("I choose (B) here.", "B"),
        ("I choose option B here.", "B"),
        # No choice.
        ("", None),
        ("b", None),
        ("(b)", None),
        ("E", None),
        ("blue", None),
        ("It is light blue, I think", None),
        ("yes", None),
        ("42", None),
        ("Blueish", None),
        ("The answer is Blue", None),
        ("The answer is b", None),
        # A letter with the text of another option.
        ("B. red", None),
        ("(A) light blue", None),
        ("E. red", None),
        # Several choices.
        ("A, B, C, D", None),
        ("A B C D", None),
        ("ABCD", None),
        ("A. B. C. D.", None),
        ("(A) (B) (C) (D)", None),
        ("(A)(B)", None),
        ("A or B", None),
        ("A/B", None),
        ("A and B.", None),
        ("A. red B. light blue C. green D. a yellow square", None),
        ("A. red\nB. light blue\nC. green\nD. a yellow square", None),
        ("red, light blue, green", None),
        ("The answer is A, B, C or D.", None),
        ("The answer is A. The answer is B.", None),
        ("The answer is B or C", None),
        ("Option A, option B, option C", None),
        (r"\boxed{A, B, C, D}", None),
        (r"\boxed{A}, \boxed{B}", "B"),  # the last box is the answer, as in every task
        (string.ascii_uppercase, None),
        (" ".join(string.ascii_uppercase), None),
    ],
)
def test_choices(response: str, letter: str | None) -> None:
    assert chosen_letter(response, COLOURS) == letter


def test_every_letter_alone_is_paid_once() -> None:
    options = [f"option {n}" for n in range(26)]
    assert [chosen_letter(letter, options) for letter in LETTERS] == [*LETTERS]
    assert chosen_letter("C", ["one", "two"]) is None


def test_equal_options_are_chosen_by_letter_alone() -> None:
    assert chosen_letter("red", ["red", "Red"]) is None
    assert chosen_letter("B", ["red", "Red"]) == "B"


@pytest.mark.parametrize(
    ("response", "gold", "is_right"),
    [
        ("40", "40", True),
        ("40.0", "40", True),
        ("40.", "40", True),
        ("4e1", "40", True),
        ("1,000", "1000", True),
        ("$50$", "50", True),
        ("$6,000", "6000", True),
        ("There are 12 people.", "12", True),
        ("The answer is 12 because 3 * 4 = 12", "12", True),
        ("-3", "-3", True),
        ("red", "red", True),
        ("Red.", "red", True),
        ("the mitochondria", "Mitochondria", True),
        ("yes", "Yes", True),
        ("**no**", "No", True),
        ("y", "yes", True),
        ("[2007, 2008]", "[2007,2008]", True),
        ("[100,200]", "[100, 200]", True),
        ("[0.5, -1]", "[.5, -1.0]", True),
        ("24/7", "24/7", True),
        # Perturbed.
        ("41", "40", False),
        ("-3", "3", False),
        ("50%", "50", False),
        (r"50\%", "50", False),
        ("4.01", "4", False),
        ("redd", "red", False),
        ("dark red", "red", False),
        ("no", "yes", False),
        ("[2008, 2007]", "[2007, 2008]", False),
        ("[100200]", "[100, 200]", False),
        ("[]", "[100, 200]", False),
        ("[2007]", "[2007, 2008]", False),
        ("12th", "12", False),
        ("a12", "12", False),
        ("12/7", "12", False),
        ("12^2", "12", False),
        # Paid for nothing.
        ("", "40", False),
        ("38 39 40 41", "40", False),
        ("38, 39, 40", "40", False),
        ("from 1 to 40", "40", False),
        ("red, blue, green", "red", False),
        ("red or blue", "red", False),
        ("yes/no", "yes", False),
        ("yes no", "yes", False),
        ("The colour is red.", "red", False),
        ("nan", "40", False),
        ("1e999", "40", False),
        ("any number", "40", False),
    ],
)
def test_short_answers(response: str, gold: str, is_right: bool) -> None:
    assert is_short_answer(response, gold) is is_right


@pytest.mark.parametrize(
    ("response", "precision", "is_right"),
    [("1.2", 1, True), ("1.23", 1, True), ("1.3", 1, False), ("1.24", 2, False), ("1", 1, False)],
)
def test_numbers_are_rounded_to_the_precision(
    response: str, precision: int, is_right: bool
) -> None:
    assert is_short_answer(response, "1.2", precision) is is_right


def test_the_grader_reads_references_of_every_kind() -> None:
    choice = {"answer": "B", "options": COLOURS}
    ratio = {"answers": ["24/7", "3.429"]}
    exact = {"answers": ["0.5"], "precision": 1}
    table = [
        (choice, "B", 1.0),
        (choice, "A", 0.0),
        (choice, "A, B, C, D", 0.0),
        (ratio, "24/7", 1.0),
        (ratio, "3.429", 1.0),
        (ratio, r"\boxed{\frac{48}{14}}", 1.0),
        (ratio, "24/7, 25/7, 26/7", 0.0),
        (ratio, "25/7", 0.0),
        (ratio, "", 0.0),
        (exact, "1/2", 0.0),
        (exact, "0.52", 1.0),
    ]
    with closing(build_grader(DatasetTaskConfig(name="mmmu"))) as grader:
        items = [(Prompt("t", 1, (), (), reference), text) for reference, text, _ in table]
        assert [score.reward for score in grader.grade(items)] == [right for *_, right in table]


SEPARATORS = (", ", " ", "/", ";", "\n", " or ", " and ", ") (", ". ", ": ", "", "|", " - ", "**")


@pytest.mark.parametrize(
    "form",
    [
        *("{}", "({})", "{}.", "**{}**", "The answer is {}", "The answer is ({}).", "Answer: {}"),
        *(r"\boxed{{{}}}", "Option {}", "I choose ({})", "<answer>{}</answer>", "Either {}!"),
    ],
)
def test_several_letters_are_never_paid(form: str) -> None:
    for separator in SEPARATORS:
        for named in ("ABCD", "AB", "BA", "DCBA", "CD"):
            response = form.format(separator.join(named))
            assert chosen_letter(response, COLOURS) is None, response


@pytest.mark.parametrize("separator", [", ", " ", "\n", " or ", "; ", "/"])
def test_several_options_are_never_paid(separator: str) -> None:
    lines = listed(COLOURS).splitlines()
    for texts in (COLOURS, COLOURS[::-1], lines, lines[::-1], lines[:2]):
        assert chosen_letter(separator.join(texts), COLOURS) is None


@pytest.mark.parametrize("separator", [", ", " ", "\n", " or ", "; ", "/", " = ", "-", " - ", ".."])
def test_several_numbers_are_never_paid(separator: str) -> None:
    for numbers in (range(1, 41), range(40, 0, -1), (40, 41), (39, 40)):
        response = separator.join(map(str, numbers))
        assert not is_short_answer(response, "40")
        assert not is_short_answer(f"The answer is {response}", "40")
        assert not is_short_answer(response, "40", 1)
