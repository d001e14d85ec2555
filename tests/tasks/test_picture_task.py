"""Generated pictures as tasks: seeds, splits, exact grades, what guessing is worth, and what is refused."""

import sys
from collections import Counter
from hashlib import blake2b
from typing import Any

import pytest

from unmask.configs.task import PICTURES, PictureTaskConfig, module_names, picture_task
from unmask.models.vision.image_codec import decode_image
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.tasks.picture_task import guessing, pixel_digest, problem_of
from unmask.tasks.pictures import digits
from unmask.types import Prompt, Split

NAMES = module_names(PICTURES)
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def config(name: str, **keys: Any) -> PictureTaskConfig:
    return PictureTaskConfig(name=name, **{"size": 120, **keys})


def everything(of: PictureTaskConfig) -> dict[Split, list[Prompt]]:
    task = build_task(of)
    return {split: [*task.prompts(split)] for split in SPLITS}


def pixels(prompt: Prompt) -> bytes:
    (image,) = prompt.messages[0].images
    return pixel_digest(decode_image(image))


def test_every_file_of_the_folder_is_a_task():
    assert NAMES == ("comparing", "counting", "digits", "mazes")


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_is_an_image_and_a_question(name: str):
    prompt, *_ = build_task(config(name)).prompts("train")
    (message,) = prompt.messages
    texts = [question.text for question in picture_task(name).questions.values()]
    assert message.content in [f"<image>\n{text}" for text in texts]
    (image,) = message.images
    assert image.data.startswith(b"\x89PNG")
    assert image.digest == blake2b(image.data, digest_size=16).digest()
    assert decode_image(image).size == (32, 32)


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_follows_from_its_seed_alone(name: str):
    small, large = config(name, size=40), config(name, size=120)
    found = {p.uid: p for prompts in everything(large).values() for p in prompts}
    for prompts in everything(small).values():
        for prompt in prompts:
            same = found[prompt.uid]
            assert (same.messages, same.reference) == (prompt.messages, prompt.reference)
            again = problem_of(large, prompt.reference["seed"])
            assert again.answer == prompt.reference["answer"]
            assert pixel_digest(again.drawing.picture) == pixels(prompt)
    first = problem_of(large, derive_seed(0, 0)).drawing.picture
    assert first.tobytes() != problem_of(large, derive_seed(0, 1)).drawing.picture.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_picture_whatever_the_seed(name: str):
    # Few pictures are possible, so that those of two seeds meet.
    few = {"level": picture_task(name).levels[0], "pixels": 16, "size": 400}
    digests: dict[Split, set[bytes]] = {split: set() for split in SPLITS}
    shared = 0
    for seed in (0, 1):
        for split, prompts in everything(config(name, seed=seed, **few)).items():
            own = {pixels(prompt) for prompt in prompts}
            shared += len(own & digests[split])
            digests[split] |= own
            assert len({prompt.uid for prompt in prompts}) == len(prompts)
    assert shared > 0
    train, validation, test = digests.values()
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_written_digits_are_in_one_split():
    sources: dict[Split, set[bytes]] = {}
    for split, prompts in everything(config("digits", level=2, size=600)).items():
        problems = [problem_of(config("digits", level=2), p.reference["seed"]) for p in prompts]
        sources[split] = {source for p in problems for source in p.drawing.sources}
    train, validation, test = sources.values()
    assert min(len(train), len(validation), len(test)) > 5
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize("name", NAMES)
def test_demonstrations_are_right_and_in_the_alphabet(name: str):
    task = build_task(config(name, compact=True))
    prompts = task.prompts("train")
    demonstrations = [task.demonstration(prompt) or "" for prompt in prompts]
    scores = task.grade([*zip(prompts, demonstrations, strict=True)])
    assert {score.reward for score in scores} == {1.0}
    assert task.alphabet is not None
    for prompt, text in zip(prompts, demonstrations, strict=True):
        assert {*prompt.messages[0].content.removeprefix("<image>"), *text} <= {*task.alphabet}


@pytest.mark.parametrize(
    ("response", "reward"),
    [
        ("3", 1.0),
        (" 3\n", 1.0),
        ("3.", 1.0),
        ("\\boxed{3}", 1.0),
        ("There are 5 circles, 3 are red: \\boxed{3}", 1.0),
        ("\\boxed{2} ... no: \\boxed{3}", 1.0),
        ("So <answer>3</answer>", 1.0),
        # Attempts to be paid for nothing.
        ("", 0.0),
        (" ", 0.0),
        (".", 0.0),
        ("1 2 3 4 5 6 7 8", 0.0),
        ("1, 2, 3, 4, 5, 6, 7, 8", 0.0),
        ("12345678", 0.0),
        ("\\boxed{1, 2, 3, 4}", 0.0),
        ("\\boxed{1}\\boxed{2}\\boxed{3}\\boxed{4}", 0.0),
        ("\\boxed{3} or \\boxed{4}", 0.0),
        ("3 or 4", 0.0),
        ("33", 0.0),
        ("3..", 0.0),
        ("3.0", 0.0),
        ("03", 0.0),
        ("+3", 0.0),
        ("-3", 0.0),
        ("3?", 0.0),
        ("three", 0.0),
        ("\u0663", 0.0),  # a digit of another script
        ("\uff13", 0.0),
        ("\\boxed{3", 0.0),
        ("nan", 0.0),
        ("How many red circles are there?", 0.0),
        ("red?", 0.0),
        ("3" * 100_000, 0.0),
    ],
)
def test_grades_of_a_number(response: str, reward: float):
    task = build_task(config("counting"))
    prompt = next(p for p in task.prompts("train") if p.reference["answer"] == "3")
    assert task.grade([(prompt, response)])[0].reward == reward


@pytest.mark.parametrize(
    ("response", "reward"),
    [
        ("L", 1.0),
        ("L.", 1.0),
        ("\\boxed{L}", 1.0),
        ("The left one: \\boxed{L}.", 1.0),
        ("R", 0.0),
        ("l", 0.0),
        ("LR", 0.0),
        ("L or R", 0.0),
        ("L R", 0.0),
        ("\\boxed{L} \\boxed{R}", 0.0),
        ("L/R", 0.0),
        ("left", 0.0),
        ("L for the left half or R for the right half", 0.0),
    ],
)
def test_grades_of_a_letter(response: str, reward: float):
    task = build_task(config("comparing"))
    prompt = next(p for p in task.prompts("train") if p.reference["answer"] == "L")
    assert task.grade([(prompt, response)])[0].reward == reward


@pytest.mark.parametrize(
    ("name", "expected"),
    [("counting", 1 / 8), ("comparing", 1 / 2), ("digits", 1 / 10), ("mazes", (1 / 2 + 1 / 6) / 2)],
)
def test_no_constant_answer_is_worth_more_than_guessing(name: str, expected: float):
    of = config(name, size=2000)
    assert guessing(of) == pytest.approx(expected)
    prompts = [prompt for split in everything(of).values() for prompt in split]
    best = Counter[str]()
    for question in picture_task(name).questions.values():
        answers = Counter(
            p.reference["answer"] for p in prompts if p.messages[0].content.endswith(question.text)
        )
        best[question.word] = max(answers.values())
    # Five standard deviations of the most frequent of a few answers.
    slack = 5 * (expected * (1 - expected) / len(prompts)) ** 0.5
    assert abs(best.total() / len(prompts) - expected) < slack


def test_questions_can_be_chosen():
    of = config("mazes", questions=("way",), compact=True)
    task = build_task(of)
    assert {p.messages[0].content for p in task.prompts("train")} == {"<image>\nway?"}
    assert {p.reference["answer"] for p in task.prompts("train")} == {"Y", "N"}
    assert guessing(of) == 0.5


def test_an_empty_split_names_the_keys():
    task = build_task(config("counting", test_share=0))
    with pytest.raises(ValueError, match=r"task\.test_share = 0\.0 leave no test prompts of coun"):
        task.prompts("test")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "sorting"}, "no task 'sorting' of pictures; there are comparing, counting"),
        ({"name": "counting", "level": 31}, "level = 31: must be 2 to 30, the most red circles"),
        (
            {"name": "digits", "level": 0},
            "level = 0: must be 1 to 3, the digits in a row of digits",
        ),
        (
            {"name": "counting", "questions": ["blue"]},
            "counting has no question 'blue'; it has red",
        ),
        ({"name": "mazes", "level": 9}, "pixels = 32: level 9 of mazes needs at least 36"),
        ({"name": "unmask.sampling_params:MOST_COUNT"}, "must be a PictureTask, found int"),
        ({"name": "counting", "size": 0}, "greater than or equal to 10"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PictureTaskConfig(**keys)


def test_a_task_of_your_own():
    of = config("unmask.tasks.pictures.counting:TASK")
    assert build_task(of).prompts("train")


def test_every_level_fits_its_least_pixels():
    for name in NAMES:
        task = picture_task(name)
        for level in task.levels:
            for question in task.questions:
                of = PictureTaskConfig(
                    name=name,
                    level=level,
                    pixels=max(8, task.least_pixels(level)),
                    questions=(question,),
                )
                for seed in range(3):
                    assert problem_of(of, seed).drawing.picture.size == (of.pixels, of.pixels)


@pytest.mark.parametrize(("name", "package"), [("counting", "PIL"), ("digits", "sklearn.datasets")])
def test_a_missing_package_is_named(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    digits.written.cache_clear()
    task = build_task(config(name))
    with pytest.raises(ValueError, match=r"pip install 'unmask\[vision\]'"):
        task.prompts("train")
