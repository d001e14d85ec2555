"""A conversation with a model: what `unmask chat` does with each line of the user."""

import shlex
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.text import Text

from unmask.checkpoints.tokenizer import encode
from unmask.cli.answers import record_line
from unmask.cli.canvas_text import CanvasText, drawn, printable
from unmask.engine.events import Written
from unmask.engine.llm import LLM
from unmask.engine.llm_arguments import user_message
from unmask.images import MARKER, Image, image_from
from unmask.models.conventions import conventions_of
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Message, Prompt, Trajectory

SETTINGS: dict[str, Callable[[str], Any]] = {
    "strategy": str,
    "threshold": float,
    "temperature": float,
    "block_size": int,
    "denoising_steps": int,
    "max_tokens": int,
    "seed": int,
}
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
HELP = f"""\
/{" X, /".join(SETTINGS)} X
                 change a setting from the next answer on; without X, print it
/image FILE      add an image to the next message, in front of it or where it has <image>; a file that is
                 dragged into the terminal is added too
/save FILE       write the answers so far as JSON Lines: unmask view FILE plays them
/reset           begin a new conversation
/help            print this
/quit, Ctrl-D    leave
Ctrl-C           stop the answer; its question is forgotten, with its images
A line that begins with a space is never a command, nor a file."""


class Session:
    """A conversation, its settings and the trajectories of its answers.

    Attributes:
        sampling: of the next answer; each answer has a seed of its own, derived from this one.
        messages: the conversation so far.
        images: of the next message.
        answers: the trajectories of the conversation.
    """

    def __init__(
        self, llm: LLM, sampling: SamplingParams, console: Console, system: str | None = None
    ) -> None:
        """Begin a conversation.

        Args:
            llm: the model, with a tokenizer.
            sampling: how it answers.
            console: where it is printed; a terminal gets moving pictures, anything else plain text.
            system: text of the system message.
        """
        llm.require_tokenizer()
        self.llm, self.sampling, self.console = llm, sampling, console
        self._opening = [] if system is None else [Message("system", system)]
        self._num_questions = 0
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation, with the same settings."""
        self.messages, self.answers = [*self._opening], list[Trajectory]()
        self.images: list[Image] = []

    def take(self, line: str) -> bool:
        """Answer a line of the user, or run it if it is a command; return whether more lines are read.

        Raises:
            ValueError: the command is wrong, or the conversation does not fit the model.
            OSError: a file cannot be written.
        """
        if path := self._dragged(line):
            self.add_image(path)
            return True
        if not line.startswith("/"):
            if line.strip():
                self.answer(line.strip())
            return True
        name, _, value = line[1:].strip().partition(" ")
        value = value.strip()
        if name in SETTINGS:
            self._set(name, value)
        elif name == "image" and value:
            words = _words(value)
            self.add_image(Path(words[0] if len(words) == 1 else value).expanduser())
        elif name == "save" and value:
            self.save(Path(value).expanduser())
        elif value or name not in ("help", "reset", "quit"):
            raise ValueError(f"/{name} {value}".rstrip() + ": no such command; /help lists them")
        elif name == "help":
            self._print(HELP)
        elif name == "reset":
            self.reset()
        return name != "quit"

    def _dragged(self, line: str) -> Path | None:
        """Return the file that a line is, as terminals write one that is dragged into them.

        Raises:
            ValueError: a file of an image stands among other words, which the model would read as text.
        """
        if line.startswith(" "):
            return None
        words = _words(line)
        paths = [Path(word) for word in words if Path(word).suffix.lower() in ENDINGS]
        found = [path for path in paths if path.is_file()]
        if found and len(words) > 1 and not line.startswith("/image "):
            raise ValueError(
                f"{found[0]} is a file: add it with /image {found[0]} and then ask; or begin the line with a space, "
                "and it is text"
            )
        return found[0] if len(words) == len(found) == 1 else None

    def add_image(self, path: str | Path) -> None:
        """Add an image to the next message.

        Raises:
            ValueError: naming the file that cannot be read, or the model reads text only.
        """
        image, tokenizer = image_from(path), self.llm.require_tokenizer()
        # Refused here rather than with the question.
        self.llm.reader.tokens(MARKER, [image], lambda text: encode(text, tokenizer))
        self.images.append(image)
        self.note(f"{path} goes with the next message")

    def _set(self, name: str, value: str) -> None:
        if value:
            try:
                converted = SETTINGS[name](value)
            except ValueError:
                raise ValueError(f"/{name} {value}: must be a number") from None
            self.sampling = replace(self.sampling, **{name: converted})
        self._print(f"{name} = {getattr(self.sampling, name)}")

    def save(self, path: Path) -> None:
        """Write the answers as JSON Lines.

        Raises:
            ValueError: there is no answer.
            OSError: the file exists, or cannot be written.
        """
        if not self.answers:
            raise ValueError(f"/save {path}: there is no answer yet")
        with path.open("x", encoding="utf-8") as file:
            file.writelines(record_line(self.llm, answer) for answer in self.answers)
        self._print(f"{len(self.answers)} answers in {path}")

    def answer(self, question: str) -> None:
        """Print the answer to a question, and keep both; after an exception neither is kept.

        Raises:
            ValueError: the conversation does not fit the model, or its logits are not finite.
        """
        messages = [*self.messages, user_message(question, self.images)]
        (prompt,) = self.llm.tokenize([Prompt("chat", len(self.answers), tuple(messages))])
        seed = derive_seed(self.sampling.seed, self._num_questions)
        self._num_questions += 1
        start = monotonic()
        trajectory = self._written(prompt, replace(self.sampling, seed=seed))
        seconds = monotonic() - start
        text = self.llm.text(trajectory)
        self.images = []
        self.messages = [*messages, Message("assistant", text)]
        self.answers.append(trajectory)
        self._print(text)
        count = trajectory.num_response
        cut = ", cut at max_tokens" if trajectory.finish == "length" else ""
        self.note(
            f"{count} tokens, {count / seconds:.1f} tokens/s, "
            f"{count / trajectory.num_forwards:.2f} tokens per forward{cut}"
        )

    def _written(self, prompt: Prompt, sampling: SamplingParams) -> Trajectory:
        """Return the response to a prompt, drawn while it is written; an exception aborts it."""
        canvas = CanvasText(
            prompt, self.llm.engine.resolve(prompt, sampling), conventions_of(self.llm.model)
        )
        moves = self.console.is_terminal and not self.console.is_dumb_terminal
        drawing = drawn(canvas, self.llm.decode, self.console) if moves else nullcontext(_ignore)
        with closing(self.llm.events(prompt, sampling, "canvas")) as events, drawing as take:
            for event in events:
                if isinstance(event, Trajectory):
                    return event
                if isinstance(event, Written):
                    take(event)
        raise AssertionError("the last event is the trajectory")

    def _print(self, text: str) -> None:
        self.console.print(Text(printable(text)), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a dim line, or a line on stderr if the conversation is not in a terminal."""
        console = self.console if self.console.is_terminal else Console(stderr=True)
        console.print(Text(printable(text), style="dim"), soft_wrap=True)


def _words(line: str) -> list[str]:
    """Return the words of a line, in which quotation marks and backslashes protect spaces as in a shell."""
    try:
        return shlex.split(line)
    except ValueError:  # a quotation mark that is not closed
        return []


def _ignore(event: Written) -> None:
    """Draw nothing."""
