#!/usr/bin/env python3
"""Run the instructions of one stage of the Dockerfile on this machine, without Docker and without a trace.

    python tools/run_dockerfile.py cpu --build-arg EXTRAS=serve --then doctor

The folders that instructions write to are overlaid in a mount namespace, so that the machine's own files are
read and never changed. A new virtual environment replaces the Python of the base image, this machine's Debian
the rest of it, and the files of the last commit are the context. At the end the entry point runs with the words
of `--then`. Needs root on Linux, and the Python version of the base image.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OVERLAID = ("etc", "opt", "root", "usr", "var")
Instructions = list[tuple[str, str]]


def instructions(text: str) -> Instructions:
    """Return the instructions of a Dockerfile as pairs of a word and its argument."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in whole)]


def stages(found: Instructions) -> dict[str, Instructions]:
    """Return the instructions of each named stage, those of the stage that it extends first."""
    named: dict[str, Instructions] = {}
    own: Instructions = []
    for word, argument in found:
        if word == "FROM":
            image, _, name = argument.partition(" AS ")
            own = named[name] = [*named.get(image, [])]
        else:
            own.append((word, argument))
    return named


class Machine:
    """This machine below overlays: what a command writes is kept in `scratch`, for the next commands."""

    def __init__(self, scratch: Path, context: Path) -> None:
        self._context = context
        self._directory = "/"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self._mounts = ""
        for name in OVERLAID:
            upper, work = scratch / name / "upper", scratch / name / "work"
            upper.mkdir(parents=True)
            work.mkdir()
            layers = f"lowerdir=/{name},upperdir={upper},workdir={work}"
            self._mounts += f"mount -t overlay overlay -o {layers} /{name}\n"

    def run(self, command: str) -> None:
        """Run a shell command; raise `CalledProcessError` if it fails."""
        sys.stdout.write(f"$ {command}\n")
        sys.stdout.flush()
        script = f'{self._mounts}cd "$1"\nexec /bin/sh -c "$2"'
        words = ["unshare", "--mount", "/bin/sh", "-euc", script, "sh", self._directory, command]
        subprocess.run(words, env=self.environment, check=True)

    def follow(self, word: str, argument: str, given: dict[str, str]) -> None:
        """Carry out one instruction; `given` are the values of `--build-arg`."""
        match word:
            case "RUN":
                self.run(argument)
            case "ENV":
                self.environment |= dict(pair.split("=", 1) for pair in shlex.split(argument))
            case "ARG":
                name, equals, default = argument.partition("=")
                if name in given or equals:
                    self.environment[name] = given.get(name, default)
            case "WORKDIR":
                self.run(f"mkdir -p {argument}")
                self._directory = argument
            case "COPY":
                *sources, target = argument.split()
                files = shlex.join(str(self._context / source) for source in sources)
                self.run(f"cp -r {files} {target}")
            case "ENTRYPOINT" | "CMD":
                pass
            case _:
                raise ValueError(f"{word}: not an instruction that this program can carry out")


def run_stage(found: Instructions, given: dict[str, str], words: list[str], scratch: Path) -> None:
    """Carry out the instructions of a stage in a scratch folder, then its entry point with `words`."""
    context, python = scratch / "context", scratch / "python"
    context.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", context], input=archive.stdout, check=True)
    subprocess.run([sys.executable, "-m", "venv", python], check=True)
    machine = Machine(scratch, context)
    machine.environment["PATH"] = f"{python / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for word, argument in found:
        machine.follow(word, argument, given)
    if words:
        (entry,) = (argument for word, argument in found if word == "ENTRYPOINT")
        machine.run(shlex.join([*json.loads(entry), *words]))


def main() -> None:
    """Read the command line and run a stage of the Dockerfile."""
    named = stages(instructions((ROOT / "Dockerfile").read_text()))
    parser = argparse.ArgumentParser(description="Run a stage of the Dockerfile without Docker.")
    parser.add_argument("stage", choices=named)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--then", default="", metavar="WORDS", help="Words for the entry point.")
    options = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in options.build_arg)
    # Not in /var/tmp: an upper folder may not lie below the folder that it is laid over.
    with tempfile.TemporaryDirectory(prefix="unmask-image-", dir="/tmp") as scratch:
        run_stage(named[options.stage], given, shlex.split(options.then), Path(scratch))


if __name__ == "__main__":
    main()
