"""SEED-Bench: questions with four options about an image (Li et al., arXiv 2307.16125).

Questions about videos (`data_type = "video"`) are left out. dLLM-RL's file of this set, `SEEDBench_IMG_32.json`, has
the options in the question and is read by `kind = "json"`, layout `question`.
"""

from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.record import Record
from unmask.tasks.short_answers import BY_LETTER, build_grader, image_problem, listed


def problem(record: Record) -> Problem | None:
    """Read `question`, `choice_a` to `choice_d`, `answer`, `data_type` and `image`."""
    if record.values.get("data_type") != "image":
        return None
    options = [record.text(f"choice_{letter}") for letter in "abcd"]
    if record.text("answer") not in {*"ABCD"}:
        raise record.unfit("answer", "must be a letter from A to D")
    asked = f"{record.text('question')}\n{listed(options)}\n{BY_LETTER}"
    return image_problem(
        record.images_of("image"), asked, {"answer": record.text("answer"), "options": options}
    )


DATASET = Dataset(
    hub="lmms-lab/SEED-Bench",
    sources={"test": Source("seedbench-test", "test")},
    problem=problem,
    template="{question}",
    build_grader=build_grader,
)
