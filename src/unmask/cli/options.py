"""Options and functions that several commands share: config words, `--show-prompt`, `--resume`."""

import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from typer import Argument, Option

from unmask.images import ImagePreprocess
from unmask.presets import preset as published_sampler
from unmask.sampling_params import SamplingParams, Strategy

if TYPE_CHECKING:
    from pydantic import BaseModel

    from unmask.configs.model import ModelConfig

    C = TypeVar("C", bound=BaseModel)

KINDS = ("sft", "dpo", "reward-model", "rl", "eval")
Words = Annotated[
    list[str],
    Argument(
        metavar="CONFIG|KEY=VALUE",
        help="TOML files, of which later ones win, and single values that override them. A name such as "
        "rl/chain_sum or methods/spg is a file that comes with unmask (`unmask config list`).",
        show_default=False,
    ),
]
ModelPath = Annotated[
    str, Argument(metavar="MODEL", help="Directory in Hugging Face layout, or a hub id.")
]
Device = Annotated[str, Option(help="cpu, cuda, cuda:1; auto is the GPU if there is one.")]
FamilyName = Annotated[
    str | None,
    Option(help="The model's family as module:OBJECT; found in the model by default."),
]
Seed = Annotated[int | None, Option(help="Same seed, same response.")]
PresetName = Annotated[
    str | None, Option(help="A published sampler (llada_official); other options override it.")
]
Images = Annotated[
    # Not paths, which would lose a slash of a URL: the message that refuses one names it.
    list[str] | None,
    Option(
        "--image",
        metavar="FILE",
        help="An image for the model to read, at its <image> in the text or in front of it; repeatable.",
    ),
]
PromptFile = Annotated[
    Path | None,
    Option(
        "--from",
        metavar="FILE",
        help="Prompts: lines of text, or JSON Lines with `prompt` or `messages`, and `image` or `images`; - is stdin.",
    ),
]
ImageRoot = Annotated[
    Path | None,
    Option(metavar="DIR", help="Folder that images of FILE are below; FILE's own by default."),
]
ShowPrompt = Annotated[
    bool, Option("--show-prompt", help="Only print the first prompt as the model reads it.")
]
Resume = Annotated[bool, Option("--resume", help="Continue the run in run.dir, to the bit.")]


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Options of commands that write responses."""

    max_tokens: Annotated[int | None, Option(help="Most tokens of a response.")] = None
    temperature: Annotated[float | None, Option(help="0 is greedy.")] = None
    strategy: Annotated[
        Strategy | None, Option(help="Rule for the positions that a denoising step reveals.")
    ] = None
    threshold: Annotated[
        float | None, Option(help="Least confidence of a revealed token under `dynamic`.")
    ] = None
    block_size: Annotated[
        int | None, Option(help="Positions per diffusion block; the model's own by default.")
    ] = None
    denoising_steps: Annotated[
        int | None, Option(help="Denoising steps of a block; one per position by default.")
    ] = None
    seed: Seed = None
    preset: PresetName = None

    def params(self, **others: Any) -> SamplingParams:
        """Return the sampling parameters of the options, and of others."""
        return sampling_of(**asdict(self), **others)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Options of commands that load a model to sample from."""

    adapter: Annotated[
        str | None, Option(metavar="DIR", help="LoRA adapters for the model, in peft's files.")
    ] = None
    device: Device = "auto"
    family: FamilyName = None
    image_codec: Annotated[
        str | None,
        Option(
            metavar="DIR",
            help="Image tokenizer (MAGVIT-v2) of a model that reads images as tokens.",
        ),
    ] = None
    image_preprocess: Annotated[
        ImagePreprocess,
        Option(help="How such a model's images become squares: as in its training."),
    ] = "pad"

    def config(self, path: str) -> "ModelConfig":
        """Return the model section of a command."""
        from unmask.configs.model import ModelConfig

        return ModelConfig(path=path, **asdict(self))


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command whose parameters are dataclasses take the fields of each as options."""
    parameters = list[inspect.Parameter]()
    groups = dict[str, Any]()
    for name, parameter in inspect.signature(command).parameters.items():
        group: Any = parameter.annotation
        if is_dataclass(parameter.annotation):
            groups[name] = group
            parameters += inspect.signature(group).parameters.values()
        else:
            parameters.append(parameter)
    # Those without a default come first.
    stated = inspect.Signature(sorted(parameters, key=lambda p: p.default is not p.empty))

    @wraps(command)
    def run(*args: Any, **given: Any) -> None:
        bound = stated.bind(*args, **given)
        bound.apply_defaults()
        values = bound.arguments
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    setattr(run, "__signature__", stated)  # noqa: B010
    return run


def load(cls: "type[C]", words: Sequence[str]) -> "tuple[C, dict[str, str]]":
    """Load a configuration from words: those with `=` are overrides, the others are files."""
    from unmask.configs.load import load_config

    files = [Path(word) for word in words if "=" not in word]
    return load_config(cls, files, [word for word in words if "=" in word])


def kind_of(words: Sequence[str], command: str) -> tuple[str, Sequence[str]]:
    """Return the kind of configuration (the first word, or the first file's folder) and a command's other words."""
    if words[0] in KINDS:
        return words[0], words[1:]
    folder = next((Path(word).parent.name for word in words if "=" not in word), "")
    if folder not in KINDS:
        raise ValueError(f"{words[0]}: give the kind first: unmask {command} rl {' '.join(words)}")
    return folder, words


def sampling_of(preset: str | None, **options: Any) -> SamplingParams:
    """Return the sampling parameters of a preset, or the defaults, overridden by the options that are given."""
    stated = {name: value for name, value in options.items() if value is not None}
    return published_sampler(preset, **stated) if preset else SamplingParams(**stated)


def error_lines(error: ValueError | OSError) -> list[str]:
    """Return the sentences of an error that the user can correct."""
    lines = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, OSError) and error.strerror:
        lines = [f"{error.filename}: {error.strerror}" if error.filename else error.strerror]
    return [*lines, *getattr(error, "__notes__", ())]


def resume_command() -> str:
    """Return the command line that resumes the run of this process."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    return f"unmask {shlex.join(words)} --resume"


def print_finished(model: str | Path, run: Path, *command: str) -> None:
    """Print on stderr the paths of a run's model and report, and a command to run next."""
    sys.stderr.write(f"model:  {model}\n")
    if (page := run / "report.html").is_file():
        sys.stderr.write(f"report: {page}\n")
    sys.stderr.write(f"next:   unmask {shlex.join(command)}\n")
