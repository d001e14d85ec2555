"""The models that the arena's runs begin with, the configs of both stages, and the problems in GSM8K's format."""

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from arena_spec import CONFIGS, MethodEntry, Spec, StartEntry, Table, TaskEntry, Unit, method_file
from word_problems import write_problems

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer, num_tokens, write_tokenizer
from unmask.configs.load import config_from
from unmask.configs.methods.advantage.value import ValueAdvantage
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.models.families import family_named
from unmask.models.transformer import Model, initialise
from unmask.runs.files import atomic_directory
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.trainers.sft import train_sft

C = TypeVar("C", SFTConfig, RLConfig)
# The critic's learning rate over the policy's: published as 5e-6 over 1e-6.
VALUE_RATE = 5
# Words with the space before them, digits and other characters one by one.
WORD = r"(?m) ?[A-Za-z]+|."
# Of the problems in GSM8K's format, which are the same for every seed of a run.
PROBLEM_SEED, NUM_TRAIN, NUM_TEST, LARGEST = 0, 3000, 400, 10


def rl_configs(spec: Spec, unit: Unit, rate: float, work: Path) -> list[RLConfig]:
    """Return the config of every phase of a run; the runs that choose a rate are measured on validation problems.

    Raises:
        ValueError: naming a key that is not accepted, and the table it stands in.
    """
    task, method = unit.task, unit.name
    entry, size = spec.methods[method], spec.tasks[task]
    model = start_directory(work, task, entry.start, unit.seed) / "sft" / "model"
    file = method_file(entry.file or method)
    tables = [
        (f"tasks.{task}.rl", size.rl),
        (f"starts.{entry.start}.rl", spec.starts[entry.start].rl),
        (str(file), tomllib.loads(file.read_text())),
        (f"methods.{method}.overrides", entry.overrides),
    ]
    configs: list[RLConfig] = []
    # Evaluations are sampled alike for all methods, whatever order a method writes its rollouts in.
    without = _config(
        RLConfig, "rl", task, [*tables[:2], ("arena", {"model": {"path": str(model)}})], work
    )
    sampling = without.sampling.model_copy(update={"block_size": entry.eval_block})
    for number, phase in enumerate(entry.phases):
        own = {
            "run": {"dir": str(work / "unused"), "seed": unit.seed + 7919 * number},
            "model": {"path": str(model), "device": "cpu", "dtype": "float32"},
            "optimizer": {"lr": rate},
            "eval": {
                "problems": spec.problems,
                "split": "test" if unit.kind == "cell" else "validation",
            },
        }
        named = [*tables, (f"methods.{method}.phases", phase), ("arena", own)]
        config = _config(RLConfig, "rl", task, named, work)
        if isinstance(config.advantage, ValueAdvantage):
            critic = config.advantage.model_copy(update={"lr": VALUE_RATE * rate})
            config = config.model_copy(update={"advantage": critic})
        section = config.eval.model_copy(update={"sampling": sampling})
        configs.append(config.model_copy(update={"eval": section}))
    return configs


def make_start(spec: Spec, task: str, start: str, seed: int, work: Path) -> None:
    """Train the SFT model of a task, a start and a seed, if it is not there."""
    directory = start_directory(work, task, start, seed)
    if (directory / "sft" / "model").is_dir():
        return
    shutil.rmtree(directory, ignore_errors=True)  # of a run that was stopped
    size, entry = spec.tasks[task], spec.starts[start]
    own = {
        "run": {"dir": str(directory / "sft"), "seed": seed},
        "model": {"path": str(directory / "base"), "device": "cpu", "dtype": "float32"},
        "eval": {"problems": 0},
        "save_every": 0,
    }
    tables = [(f"tasks.{task}.sft", size.sft), (f"starts.{start}.sft", entry.sft), ("arena", own)]
    config = _config(SFTConfig, "sft", task, tables, work)
    _make_base(config, size, entry, directory / "base")
    train_sft(config)


def start_directory(work: Path, task: str, start: str, seed: int) -> Path:
    """Return where the SFT model of a task, a start and a seed is kept."""
    return work / "starts" / f"{task}-{start}-{seed}"


def starts_of(methods: Mapping[str, MethodEntry]) -> list[str]:
    """Return the starts that methods need."""
    return list(dict.fromkeys(method.start for method in methods.values()))


def make_problems(work: Path) -> None:
    """Write the problems in GSM8K's format, if they are not there."""
    directory = work / "problems"
    if not directory.is_dir():
        with atomic_directory(directory) as place:
            write_problems(place, PROBLEM_SEED, NUM_TRAIN, NUM_TEST, LARGEST)


def _config(
    kind: type[C], name: str, task: str, tables: Sequence[tuple[str, Table]], work: Path
) -> C:
    shipped = CONFIGS / name / f"{task}.toml"
    found: dict[str, Any] = tomllib.loads(shipped.read_text())
    if found["task"]["kind"] == "dataset":
        found["task"]["path"] = str(work / "problems")
    return config_from(kind, [(str(shipped), found), *tables])[0]


def _make_base(config: SFTConfig, size: TaskEntry, start: StartEntry, directory: Path) -> None:
    """Write a model with random weights, and a tokenizer of the task's characters or words."""
    width, num_layers, ffn_width = size.shape
    tiny = family_named(start.family).tiny
    heads = width // tiny.head_width
    spec = replace(
        tiny,
        num_layers=num_layers,
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        ffn_width=ffn_width,
        max_length=512,
        block_size=start.block_size or tiny.block_size,
    )
    with atomic_directory(directory) as place, closing(build_task(config.task)) as task:
        vocab_size = _write_tokenizer(task, place)
        model = Model(replace(spec, vocab_size=vocab_size, num_drawable=vocab_size))
        initialise(model, config.run.seed)
        save_model(model, place)


def _write_tokenizer(task: Task, directory: Path) -> int:
    """Write the tokenizer of a task and return the number of its tokens."""
    if task.alphabet is not None:
        return num_tokens(character_tokenizer(task.alphabet, directory))
    from tokenizers import Regex
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    split = Split(Regex(WORD), "isolated")
    prompts = task.prompts("train")
    texts = [message.content for prompt in prompts for message in prompt.messages]
    texts += [task.demonstration(prompt) or "" for prompt in prompts]
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
    names = ("<eos>", "<mask>", *sorted(words))
    backend = Backend(WordLevel({word: number for number, word in enumerate(names)}))
    backend.pre_tokenizer = split
    backend.decoder = Fuse()
    return num_tokens(write_tokenizer(backend, directory))
