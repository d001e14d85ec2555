"""Checkpoints on the device: written and read to the bit, and runs that go on as if never interrupted.

Each run is made three times: twice without a break, which shows whether the device itself repeats its bits, and
once with an error in a late step, from whose last checkpoint it goes on. Where the first two differ, the cause is
the device's kernels, not the checkpoint.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import FORMATS, relative, small_model, worst
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.checkpoints.tokenizer import character_tokenizer, num_tokens
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.trainers.checkpointer import Checkpointer
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft
from unmask.types import Prompt

ALPHABET = "0123456789+-=; abcde"
QUESTIONS = ("1+2=", "3-4=", "50+1=", "7=", "89-12=", "6+6+6=")
SHARED = (
    *("steps=4", "save_every=2", "eval.problems=0", "optimizer.lr=1e-3"),
    *("task.kind=json", "task.template={question}"),
    "task.reward=tools.gpu.parts.resume:share_of_sevens",
)
SFT = (*SHARED, "data.batch_size=4", "views.count=2")
RL = (
    *(*SHARED, "rollout.prompts=3", "rollout.responses=4", "sampling.max_tokens=16"),
    *("minibatches=2", "filter.drop_uniform=false"),
)
BROKEN_STEP = 3


def share_of_sevens(prompt: Prompt, response: str) -> float:
    """Reward a response for every 7 in it."""
    return response.count("7") / 8


class BrokenError(RuntimeError):
    """Ends a run in the middle."""


def run(setting: Setting) -> Outcome:
    """Save and load a model in both formats, and interrupt an SFT and an RL run in both."""
    figures: dict[str, Any] = {"settings": {"sft": SFT, "rl": RL, "broken_step": BROKEN_STEP}}
    passed = True
    for name, dtype in FORMATS.items():
        figures[f"checkpoint {name}"] = found = {"same_bits": is_kept(setting, dtype)}
        passed &= found["same_bits"]
        if setting.is_tiny and name != "fp32":
            continue  # the runs take most of the time
        words = prepare(setting, setting.folder / name, dtype)
        for kind in ("sft", "rl"):
            start = partial(train, kind, setting.folder / name / kind, words)
            found = figures[f"{kind} {name}"] = interrupted(start)
            passed &= found["resumed"]["same_bits"]
    runs = {key: x for key, x in figures.items() if "resumed" in x}
    same = [key for key, x in runs.items() if x["resumed"]["same_bits"]]
    summary = f"resumed to the bit: {', '.join(same) or 'none'} (of {len(runs)} runs)"
    return Outcome(summary, passed, figures)


def prepare(setting: Setting, folder: Path, dtype: torch.dtype) -> list[str]:
    """Write a checkpoint, questions and demonstrations, and return the settings that name them."""
    vocabulary = num_tokens(character_tokenizer(ALPHABET, folder / "checkpoint"))
    sizes = {"vocab_size": vocabulary, "num_drawable": vocabulary}
    model = small_model(setting, dtype, **sizes)
    with torch.no_grad():
        model.head.projection.weight.mul_(0.1)  # unsure of everything, so that answers differ
    save_model(model, folder / "checkpoint")
    questions = [{"question": q, "ground_truth_answer": "7"} for q in QUESTIONS]
    (folder / "questions.json").write_text(json.dumps(questions))
    answers = [{"prompt": q, "response": "7;77<eos>"} for q in QUESTIONS]
    (folder / "demonstrations.json").write_text(json.dumps(answers))
    return [
        f"model.path={folder / 'checkpoint'}",
        f"model.device={setting.device}",
        f"model.dtype={str(dtype).removeprefix('torch.')}",
        f"task.train={folder / 'questions.json'}",
        f"task.validation={folder / 'questions.json'}",
    ]


def train(kind: str, folder: Path, words: Sequence[str], run: str) -> Path:
    """Train in the directory `run`, from its last checkpoint if it has one, and return the directory."""
    place = [*words, f"run.dir={folder / run}"]
    if kind == "sft":
        path = f"data.path={folder.parent / 'demonstrations.json'}"
        return train_sft(load_config(SFTConfig, [], [*SFT, path, *place])[0], resume=True).parent
    return train_rl(load_config(RLConfig, [], [*RL, *place])[0], resume=True).parent


def is_kept(setting: Setting, dtype: torch.dtype) -> bool:
    """Return whether a model has the same weights after it is saved and loaded."""
    model = small_model(setting, dtype)
    place = setting.folder / f"saved {dtype}"
    save_model(model, place)
    loaded = load_model(place, setting.device, dtype, model.spec.mask_id).state_dict()
    return all(torch.equal(x, loaded[name]) for name, x in model.state_dict().items())


def interrupted(start: Callable[[str], Path]) -> dict[str, Any]:
    """Return whether a run repeats its bits, and whether it does after an interruption."""
    whole, again = state(start("whole")), state(start("again"))
    with broken_at(BROKEN_STEP):
        try:
            start("broken")
        except BrokenError:
            pass
        else:
            raise AssertionError("the run was not interrupted")
    return {"repeated": compare(again, whole), "resumed": compare(state(start("broken")), whole)}


@contextmanager
def broken_at(broken: int) -> Generator[None, None, None]:
    """Let runs fail at the end of a step, before they save it."""
    before = Checkpointer.on_step_end

    def on_step_end(self: Checkpointer, step: int, metrics: Mapping[str, float]) -> None:
        if step == broken:
            raise BrokenError
        before(self, step, metrics)

    Checkpointer.on_step_end = on_step_end
    try:
        yield
    finally:
        Checkpointer.on_step_end = before


def state(run: Path) -> dict[str, Tensor]:
    """Return the model and the optimizer state that a run ended with."""
    last = max((run / "checkpoints").iterdir())
    model = load_file(run / "model" / "model.safetensors")
    return model | load_file(last / "optimizer.safetensors")


def compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Any]:
    """Return whether tensors have the same bits, and their worst relative difference."""
    assert found.keys() == expected.keys()
    largest = worst([found[name] for name in expected], list(expected.values()))
    is_same = all(torch.equal(found[name], expected[name]) for name in expected)
    return {"same_bits": is_same, "largest_share": relative(largest)}


# Sixteen runs of up to four steps of a small model: 20 s.
PART = Part(
    "checkpoints, and interrupted SFT and RL runs, to the bit", "correctness", run, limit_s=90
)
