"""The real command in a process of its own, on a toy checkpoint and six questions."""

import os
import sys
from pathlib import Path

from tests.architecture.source import ROOT
from tests.forked_python import ForkedPython
from tests.trainers.breaking import REWARD
from tests.trainers.toy_runs import rl_config
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.trainers.rl import train_rl

RL = [
    *("task.kind=json", "task.template={question}", REWARD, "optimizer.lr=1e-3"),
    *("rollout.prompts=3", "rollout.responses=4", "sampling.max_tokens=8", "eval.problems=0"),
]


def rl_words(place: Path, *words: str, run: str = "run") -> list[str]:
    """Write checkpoint and questions below `place`, and return the words of a tiny `unmask rl`."""
    rl_config(place)
    paths = [
        f"run.dir={place / run}",
        f"model.path={place / 'checkpoint'}",
        f"task.train={place / 'questions.json'}",
        f"task.validation={place / 'questions.json'}",
    ]
    return ["rl", *RL, *paths, *words]


def start(words: list[str], **variables: str) -> ForkedPython:
    """Start `unmask` with these words."""
    paths = [str(ROOT), *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}
    return ForkedPython(["-m", "unmask", *words], env=environment)


def end(process: ForkedPython) -> tuple[int, str]:
    """Wait for its end; return exit code and stderr. Nothing may have gone to stdout."""
    out, error = process.communicate(timeout=120)
    assert out == ""
    return process.returncode, error


def train(words: list[str]) -> Path:
    """Do in this process what `unmask rl ... --resume` does: to start one takes seconds."""
    settings = [word for word in words[1:] if word != "--resume"]
    return train_rl(load_config(RLConfig, [], settings)[0], resume=True)


def errors(words: list[str], **variables: str) -> list[str]:
    """Run a command that must end with exit code 2, and return its lines, without `error: `."""
    code, said = end(start(words, **variables))
    assert code == 2, said
    assert "Traceback" not in said
    return [
        line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")
    ]
