"""`[task]`: what is asked, and how answers are judged. One class per kind of task."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from unmask.configs.sandbox import SandboxConfig
from unmask.configs.section import Section

BOXED_TEMPLATE = (
    "{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}."
)
Extraction = Literal["boxed", "stated", "anywhere"]
# Every name is a file of `unmask.tasks` and a line of `tasks.public_datasets.dataset_by_name`.
DatasetName = Literal[
    "gsm8k",
    "math500",
    "math_train",
    "aime24",
    "aime25",
    "livebench_math",
    "livebench_coding",
    "humaneval",
    "mbpp",
    "livecodebench",
]


class VerifierConfig(Section):
    """How verifiers of other packages are run: in worker processes that are killed when they take too long."""

    workers: int = Field(default=1, ge=1, le=1024)
    """Worker processes."""
    time_limit_s: float = Field(default=5.0, gt=0, le=3600)
    """Seconds of processor time one item may take; an item that takes more scores 0 and is counted in the
    log. One that does not get its processor time within thirty times as long is tried again, and is never
    a zero."""


class ReasoningGymConfig(Section):
    """A dataset of the `reasoning_gym` package, judged by that package's own verifier."""

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    """Which kind of task this is."""
    name: str
    """Name of the dataset, as in `reasoning_gym.create_dataset(name)`."""
    args: dict[str, Any] = {}
    """Arguments of the dataset's generator."""
    size: int = Field(default=20_000, ge=10, le=10_000_000)
    """Problems drawn from the generator; repeats of a prompt are dropped."""
    seed: int = Field(default=0, ge=0)
    """Seed of the generator."""
    validation_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the distinct prompts held out for choosing hyper-parameters."""
    test_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the distinct prompts held out for the reported numbers."""
    compact: bool = False
    """Use the short prompt and response format for small models where the task has one."""
    exact: bool | None = None
    """Count a graded score as 1 only when it is full; the task decides when not given."""
    allow_lenient: bool = False
    """Use the data set even if its verifier pays junk, such as the answer `nan`, in full; otherwise it is
    refused when it is loaded."""
    reward: str | None = None
    """Your own reward as `module:function`, called as `function(prompt, response) -> float`, in
    place of the verifier."""
    verifier: VerifierConfig = VerifierConfig()
    """How the verifier is run."""


class JsonTaskConfig(Section):
    """Problems from JSON or JSON Lines files with `question` and `ground_truth_answer`, judged as mathematics."""

    kind: Literal["json"] = "json"
    """Which kind of task this is."""
    name: str = "math"
    """Name that stands in logs."""
    train: Path | None = None
    """File of training problems."""
    validation: Path | None = None
    """File of problems for choosing hyper-parameters."""
    test: Path | None = None
    """File of problems for the reported numbers."""
    template: str = BOXED_TEMPLATE
    """What the model is asked; `{question}` stands for the problem's text."""
    extraction: Extraction = "boxed"
    """What counts in a response without a closed `\\boxed{}`: nothing (`boxed`), a `stated` answer ("The
    answer is 18."), or the last expression `anywhere`."""
    reward: str | None = None
    """Your own reward as `module:function`, called as `function(prompt, response) -> float`, in
    place of the comparison of mathematics."""
    verifier: VerifierConfig = VerifierConfig()
    """How the verifier is run."""


class DatasetTaskConfig(Section):
    """A published data set by name, with the grader its answers need."""

    kind: Literal["dataset"] = "dataset"
    """Which kind of task this is."""
    name: DatasetName
    """Name of the data set."""
    path: Path | None = None
    """Your copy: a file of one split, or a directory of files; when not given, the directory
    `$UNMASK_DATA`, then the hub by the `datasets` package."""
    template: str | None = None
    """What the model is asked; `{question}` stands for the problem's text; the data set's own wording
    when not given."""
    extraction: Extraction | None = None
    """Where the answer is mathematics: what counts in a response without a closed `\\boxed{}`: nothing
    (`boxed`), a `stated` answer ("The answer is 18."), or the last expression `anywhere`; the data
    set decides when not given."""
    validation_share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the training problems held out as validation, where none was published."""
    reward: str | None = None
    """Your own reward as `module:function`, called as `function(prompt, response) -> float`, in
    place of the grader."""
    verifier: VerifierConfig = VerifierConfig()
    """How the verifier is run."""
    sandbox: SandboxConfig = SandboxConfig()
    """How programs are run, where the answers are programs."""

    @field_validator("name", mode="before")
    @classmethod
    def _is_known(cls, name: Any) -> Any:
        names = get_args(DatasetName)
        if name not in names:
            near = ", ".join(get_close_matches(str(name), names)) or "nothing"
            raise ValueError(
                f"{name!r} is no data set here; near it: {near}; there are {', '.join(names)}"
            )
        return name


TaskConfig = Annotated[
    ReasoningGymConfig | JsonTaskConfig | DatasetTaskConfig, Field(discriminator="kind")
]
