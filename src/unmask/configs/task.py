"""`[task]`: where problems come from and how responses are graded. One class per kind of task."""

import importlib.util
import pkgutil
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from unmask.configs.import_path import import_object
from unmask.configs.reward_function import OwnRewardConfig
from unmask.configs.sandbox import SandboxConfig
from unmask.configs.section import Section

BOXED_TEMPLATE = (
    "{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}."
)
# The package whose modules are the tasks of generated pictures.
PICTURES = "unmask.tasks.pictures"
Extraction = Literal["boxed", "stated", "anywhere"]


# Fields of the layouts of problems, which `fields` may map.
ProblemField = Literal[
    "question",
    "ground_truth_answer",
    "answer",
    "prompt",
    "reward_model",
    "test_method",
    "test_list",
    "prefix",
    "test_input",
    "test_output",
    "test_time_limit",
    "image",
    "images",
    "image_path",
    "image_abs_path",
    "is_caption",
]


def dataset_names() -> tuple[str, ...]:
    """Return the names of the package's data sets: the files of `unmask.tasks.datasets`, which are not imported."""
    return module_names("unmask.tasks.datasets")


def module_names(package: str) -> tuple[str, ...]:
    """Return the names of the modules in a package, which are not imported."""
    folder = importlib.util.find_spec(package)
    assert folder is not None
    modules = pkgutil.iter_modules(folder.submodule_search_locations)
    return tuple(sorted(module.name for module in modules))


class VerifierConfig(Section):
    """How verifiers of other packages are run: in worker processes that are killed at a time limit."""

    workers: int = Field(default=1, ge=1, le=1024)
    """Worker processes."""
    time_limit_s: float = Field(default=5.0, gt=0, le=3600)
    """Seconds of processor time one item may take; an item that takes more scores 0 and is counted in the
    log. One that does not get its processor time within thirty times as long is tried again and does not
    score 0."""


class GeneratedTaskConfig(OwnRewardConfig):
    """The keys of tasks whose problems are drawn from a generator."""

    name: str
    """Name of the task."""
    size: int = Field(default=20_000, ge=10, le=10_000_000)
    """Problems drawn; repeats of a prompt are dropped."""
    seed: int = Field(default=0, ge=0)
    """Seed of the problems."""
    validation_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the distinct prompts held out for choosing hyper-parameters."""
    test_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the distinct prompts held out for the reported numbers."""


class ReasoningGymConfig(GeneratedTaskConfig):
    """A data set of the `reasoning_gym` package, graded by that package's verifier."""

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    """Which kind of task this is."""
    name: str
    """Name of the dataset, as in `reasoning_gym.create_dataset(name)`."""
    args: dict[str, Any] = {}
    """Arguments of the dataset's generator."""
    compact: bool = False
    """Use the short prompt and response format for small models where the task has one."""
    exact: bool | None = None
    """Count a graded score as 1 only when it is full; the task decides when not given."""
    allow_lenient: bool = False
    """Use the data set even if its verifier gives full reward to junk such as the answer `nan`; otherwise it
    is refused when it is loaded."""
    verifier: VerifierConfig = VerifierConfig()
    """How the verifier is run."""


class PictureTaskConfig(GeneratedTaskConfig):
    """Generated pictures with a question whose answer is a letter or a number, graded exactly."""

    kind: Literal["pictures"] = "pictures"
    """Which kind of task this is."""
    name: str
    """Name of the task, such as `counting`, or `module:OBJECT`: a `PictureTask` of your own
    (docs/add-a-task.md)."""
    questions: tuple[str, ...] = ()
    """Questions that are asked, each with the same probability; all of the task when not given."""
    level: int | None = None
    """Difficulty; each task defines its meaning and its range (docs/images.md). The task's own when not
    given."""
    pixels: int = Field(default=32, ge=8, le=1024)
    """Pixels of a side of the pictures, which are squares."""
    size: int = Field(default=5_000, ge=10, le=1_000_000)
    """Pictures drawn; repeats of a picture with its question are dropped."""
    compact: bool = False
    """Ask in one word, for small models, instead of a sentence that states the form of the answer."""

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        picture_task(name)
        return name

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        task = picture_task(self.name)
        for question in self.questions:
            if question not in task.questions:
                raise ValueError(
                    f"questions: {self.name} has no question {question!r}; it has {', '.join(task.questions)}"
                )
        if self.chosen_level not in task.levels:
            raise ValueError(
                f"level = {self.level}: must be {task.levels[0]} to {task.levels[-1]}, the {task.meaning} of "
                f"{self.name}"
            )
        if self.pixels < (least := task.least_pixels(self.chosen_level)):
            raise ValueError(
                f"pixels = {self.pixels}: level {self.chosen_level} of {self.name} needs at least {least}"
            )
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the questions that are asked."""
        return self.questions or tuple(picture_task(self.name).questions)

    @property
    def chosen_level(self) -> int:
        """The level, or the task's own."""
        return picture_task(self.name).level if self.level is None else self.level


def picture_task(name: str) -> Any:
    """Return the `PictureTask` of a name, or of `module:OBJECT`.

    Raises:
        ValueError: there is none, or the object is another one; names those there are.
    """
    if ":" in name:
        found: Any = import_object(name, repr(name))
        if not all(hasattr(found, part) for part in ("questions", "levels", "draw")):
            raise ValueError(f"{name!r}: must be a PictureTask, found {type(found).__name__}")
        return found
    if name not in (names := module_names(PICTURES)):
        raise ValueError(f"there is no task {name!r} of pictures; there are {', '.join(names)}")
    return import_object(f"{PICTURES}.{name}:TASK", name)


class JsonTaskConfig(OwnRewardConfig):
    """Problems from your own files: JSON, JSON Lines (also `.gz`) or Parquet (docs/data.md lists the layouts)."""

    kind: Literal["json"] = "json"
    """Which kind of task this is."""
    name: str = "math"
    """Name of the task in logs."""
    train: Path | None = None
    """File of training problems."""
    validation: Path | None = None
    """File of problems for choosing hyper-parameters."""
    test: Path | None = None
    """File of problems for the reported numbers."""
    layout: str | None = None
    """Layout of the records; follows from the keys of a file's first record when not given."""
    fields: dict[ProblemField, str] = {}
    """Names of fields here and in the files: `{question = "problem", ground_truth_answer = "solution"}`;
    `a.b` is the field `b` of a table `a`."""
    image_root: Path | None = None
    """Directory that paths of images are below; that of a file of problems when not given."""
    template: str | None = None
    """The prompt; `{question}` is replaced by the problem's text, in a conversation by its last turn. By
    default a request for a box where records hold a `question`; none where they hold a whole
    `prompt` or ask for a program."""
    extraction: Extraction | None = None
    """What counts in a response without a closed `\\boxed{}`: nothing (`boxed`), a `stated` answer ("The
    answer is 18.", "#### 18"), or the last expression `anywhere`. By default `boxed`, or `stated` where
    a file holds whole prompts, which ask for the form of the answer themselves."""
    reward: str | None = None
    """Your own reward as `module:function`, in place of the grader; called as
    `function(prompt, response) -> float` unless `reward_signature` names another form. `prompt.reference`
    has all fields of the record, but images and turns that hold some, which are in `prompt.messages`."""
    verifier: VerifierConfig = VerifierConfig()
    """How the verifier is run."""
    sandbox: SandboxConfig = SandboxConfig()
    """How programs are run, where the answers are programs."""

    @field_validator("layout")
    @classmethod
    def _exists(cls, layout: str | None) -> str | None:
        if layout is not None and layout not in (names := module_names("unmask.tasks.layouts")):
            raise ValueError(f"there is no layout {layout!r}; there are {', '.join(names)}")
        return layout


class DatasetTaskConfig(OwnRewardConfig):
    """A published data set by name, with the grader its answers need."""

    kind: Literal["dataset"] = "dataset"
    """Which kind of task this is."""
    name: str
    """Name of the data set, or `module:OBJECT`: a `Dataset` of your own (docs/add-a-task.md)."""
    path: Path | None = None
    """Your copy: a file of one split, or a directory of files; when not given, the directory
    `$UNMASK_DATA`, then the hub by the `datasets` package."""
    image_root: Path | None = None
    """Directory that paths of images are below; that of your copy's file when not given."""
    template: str | None = None
    """The prompt; `{question}` is replaced by the problem's text; the data set's own template when not
    given."""
    extraction: Extraction | None = None
    """Where the answer is mathematics: what counts in a response without a closed `\\boxed{}`: nothing
    (`boxed`), a `stated` answer ("The answer is 18."), or the last expression `anywhere`; the data
    set decides when not given."""
    validation_share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the training problems held out as validation, where none was published."""
    verifier: VerifierConfig = VerifierConfig()
    """How the verifier is run."""
    sandbox: SandboxConfig = SandboxConfig()
    """How programs are run, where the answers are programs."""

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        if ":" in name:
            found = import_object(name, repr(name))
            # Its type is above this layer: the attributes that building the task reads.
            if not all(hasattr(found, part) for part in ("sources", "problem", "build_grader")):
                raise ValueError(f"{name!r}: must be a Dataset, found {type(found).__name__}")
        elif name not in (names := dataset_names()):
            near = ", ".join(get_close_matches(name, names)) or "none"
            raise ValueError(
                f"there is no data set {name!r}; near it: {near}; there are {', '.join(names)}, or "
                "give your own as module:OBJECT"
            )
        return name


TaskConfig = Annotated[
    ReasoningGymConfig | JsonTaskConfig | DatasetTaskConfig | PictureTaskConfig,
    Field(discriminator="kind"),
]
