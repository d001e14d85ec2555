"""Tasks of generated pictures: a picture, a question, and one right answer, which is a letter or a number.

A problem follows from its seed alone. A picture is in one split, by a hash of its pixels or of what it is
made of (`Drawing.sources`), whatever the seed, the order or the number of problems drawn: no run tests a
model on a picture that another run trained it on. Pictures are drawn and encoded once.

**Grading is exact.** The answer is the content of the last box or of the answer tags
(`rewards.answers.answer_from_response`), else the whole response; space around it and one full stop after it
do not count. It must be the right answer character for character, so a list of answers is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING

from unmask.configs.task import PictureTaskConfig, picture_task
from unmask.images import image_from
from unmask.rewards.answers import answer_from_response
from unmask.seeds import derive_seed
from unmask.tasks.grader import Grader, own_grader
from unmask.tasks.picture import Drawing, PictureTask, Question, Wanted
from unmask.tasks.task import Task, prompt_from_text, prompts_of_splits, split_from_text
from unmask.types import Message, Prompt, Score, Split

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True, slots=True)
class Problem:
    """A generated problem.

    Attributes:
        question: what is asked, with its wordings.
        answer: the right answer.
        drawing: the picture.
    """

    question: Question
    answer: str
    drawing: Drawing


def build_picture_task(config: PictureTaskConfig) -> Task:
    """Build the task of a config; its pictures are drawn at the first call of `prompts`."""
    grader = own_grader(config) or Grader(lambda items: [_score(*item) for item in items])
    return Task(
        config.name,
        prompts_of_splits(config, lambda: _draw_splits(config)),
        lambda prompt: prompt.reference["answer"],
        grader.grade,
        alphabet=_alphabet(config) if config.compact else None,
        answer=exact_answer,
    )


def problem_of(config: PictureTaskConfig, seed: int) -> Problem:
    """Return the problem of a seed; everything but the seed is the task's and the config's."""
    task, random = _task(config), Random(seed)
    name = random.choice(config.asked)
    level = config.chosen_level
    answer = random.choice(task.questions[name].answers(level))
    wanted = Wanted(name, answer, config.pixels, level)
    return Problem(task.questions[name], answer, task.draw(random, wanted))


def guessing(config: PictureTaskConfig) -> float:
    """Return the expected accuracy of answers that do not depend on the picture."""
    questions = [_task(config).questions[name] for name in config.asked]
    return sum(1 / len(q.answers(config.chosen_level)) for q in questions) / len(questions)


def exact_answer(response: str) -> str:
    """Return the part of a response that is compared with the right answer."""
    return answer_from_response(response).strip().removesuffix(".")


def pixel_digest(picture: "Picture") -> bytes:
    """Return the digest of a picture's pixels; its file may differ between versions of the PNG encoder."""
    return blake2b(repr(picture.size).encode() + picture.tobytes(), digest_size=16).digest()


def _task(config: PictureTaskConfig) -> PictureTask:
    return picture_task(config.name)


def _score(prompt: Prompt, response: str) -> Score:
    return Score(float(exact_answer(response) == prompt.reference["answer"]))


def _alphabet(config: PictureTaskConfig) -> str:
    """Return every character of the short questions and of the answers; a line break is after each image."""
    questions = [_task(config).questions[name] for name in config.asked]
    texts = ["\n"]
    texts += [text for q in questions for text in (q.word, *q.answers(config.chosen_level))]
    return "".join(sorted({*"".join(texts)}))


def _draw_splits(config: PictureTaskConfig) -> Mapping[Split, list[Prompt]]:
    splits: dict[Split, dict[int, Prompt]] = {"train": {}, "validation": {}, "test": {}}
    for index in range(config.size):
        seed = derive_seed(config.seed, index)
        problem = problem_of(config, seed)
        if (split := split_of(problem.drawing, config)) is not None:
            prompt = _prompt(config, problem, seed)
            splits[split].setdefault(prompt.uid, prompt)
    return {split: [*prompts.values()] for split, prompts in splits.items()}


def split_of(drawing: Drawing, config: PictureTaskConfig) -> Split | None:
    """Return the split of a picture; None if the content that it is made of is in several."""
    sources = drawing.sources or (pixel_digest(drawing.picture),)
    shares = config.validation_share, config.test_share
    splits: set[Split] = {split_from_text(source.hex(), *shares) for source in sources}
    return splits.pop() if len(splits) == 1 else None


def _prompt(config: PictureTaskConfig, problem: Problem, seed: int) -> Prompt:
    """Return the prompt of a problem, numbered by a hash of its pixels and its question."""
    question = problem.question.word if config.compact else problem.question.text
    picture = problem.drawing.picture
    reference = {"answer": problem.answer, "seed": seed}
    text = f"{pixel_digest(picture).hex()} {question}"
    numbered = prompt_from_text(config.name, text, reference)
    image = image_from(picture, f"{config.name}-{seed}.png")
    return replace(numbered, messages=(Message.of("user", image, question),))
