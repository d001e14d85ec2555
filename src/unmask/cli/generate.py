"""`unmask generate`: the responses of a model to words, or to the prompts of a file or of stdin.

Responses to words are printed as text. Responses to a file are JSON Lines in the order of its prompts: the
records of `trajectories.jsonl`, with token ids, step map, log-probabilities and sampling. All prompts run
through one engine together. A line is written as soon as those before it are; so an interrupted command
leaves the lines before the first response that was still missing.
"""

import json
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Annotated

import typer

from unmask.cli.options import (
    Adapter,
    BlockSize,
    DenoisingSteps,
    Device,
    FamilyName,
    MaxTokens,
    ModelPath,
    PresetName,
    Seed,
    StrategyName,
    Temperature,
    Threshold,
    sampling_of,
)
from unmask.seeds import derive_seed
from unmask.types import Prompt, SamplingParams, Trajectory

if TYPE_CHECKING:
    from unmask.engine.llm import LLM

app = typer.Typer()


@app.command(
    no_args_is_help=True,
    epilog='Examples: unmask generate runs/quickstart/rl/model "3+4+5=" --temperature 0; '
    "unmask generate MODEL --from prompts.jsonl --out responses.jsonl",
)
def generate(  # noqa: PLR0913 - one argument per option
    model: ModelPath,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]", help="Texts to respond to.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Prompts: lines of text, or JSON Lines with `prompt` or `messages`; - is stdin.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON Lines file to write; stdout by default, as text for words."),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", help="Responses per prompt.")] = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    strategy: StrategyName = None,
    threshold: Threshold = None,
    block_size: BlockSize = None,
    denoising_steps: DenoisingSteps = None,
    seed: Seed = None,
    preset: PresetName = None,
    adapter: Adapter = None,
    device: Device = "auto",
    family: FamilyName = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Use the model's chat template if it has one.")
    ] = True,
) -> None:
    """Answer prompts: print the responses, or write them with the order of revealing as JSON Lines."""
    sampling = sampling_of(
        preset,
        n=n,
        max_tokens=max_tokens,
        temperature=temperature,
        strategy=strategy,
        threshold=threshold,
        block_size=block_size,
        denoising_steps=denoising_steps,
        seed=seed,
    )
    if out and out.exists():
        raise ValueError(f"--out {out}: exists; remove it or name another file")
    from unmask.cli.prompts import read_prompts, tokenized
    from unmask.configs.engine import EngineConfig
    from unmask.configs.model import ModelConfig
    from unmask.engine.build import build_llm

    found = read_prompts(words or [], source)
    config = ModelConfig(path=model, adapter=adapter, device=device, family=family)
    llm = build_llm(config, EngineConfig())
    prompts = tokenized(found, llm, replace(sampling, n=1), chat)
    with out.open("x", encoding="utf-8") if out else nullcontext(sys.stdout) as file:
        is_text = bool(words) and not out
        write = text_writer(llm, file) if is_text else record_writer(llm, file)
        answer(llm, prompts, sampling, write, has_bar=not is_text)


def answer(
    llm: "LLM",
    prompts: Sequence[Prompt],
    sampling: SamplingParams,
    write: Callable[[Trajectory], None],
    has_bar: bool = False,
) -> None:
    """Write the responses to prompts, all of which run together, in the order of the prompts.

    Args:
        llm: the model.
        prompts: with `token_ids` and different `uid`s.
        sampling: of each; response `i` of a prompt has the seed that `LLM.generate` gives it.
        write: called with each response.
        has_bar: whether progress is shown on stderr.

    Raises:
        BrokenResponses: some responses could not be written; the others are.
    """
    from unmask.runs.progress import Progress

    seeds = [derive_seed(sampling.seed, index) for index in range(sampling.n)]
    pairs = [(prompt, replace(sampling, n=1, seed=seed)) for prompt in prompts for seed in seeds]
    waiting = deque((prompt.uid, one.seed) for prompt, one in pairs)
    finished: dict[tuple[int, int], Trajectory] = {}
    bar = Progress(len(pairs), "generate") if has_bar else None
    num_tokens, start = 0, monotonic()

    def take(trajectory: Trajectory) -> None:
        nonlocal num_tokens
        finished[trajectory.prompt.uid, trajectory.sampling.seed] = trajectory
        while waiting and waiting[0] in finished:
            write(finished.pop(waiting.popleft()))
        num_tokens += trajectory.num_response
        if bar:
            bar.advance(tokens_per_s=num_tokens / (monotonic() - start))

    with bar or nullcontext():
        try:
            llm.complete([prompt for prompt, _ in pairs], [one for _, one in pairs], take)
        except ValueError:  # some are broken: those behind them have not been written yet
            for key in waiting:
                if key in finished:
                    write(finished[key])
            raise


def record_writer(llm: "LLM", file: IO[str]) -> Callable[[Trajectory], None]:
    """Return a function that writes a response as a line of JSON."""
    from unmask.runs.trajectories import grid_ids, trajectory_record

    def write(trajectory: Trajectory) -> None:
        pieces = llm.pieces(grid_ids(trajectory))
        record = trajectory_record(trajectory, llm.text(trajectory), None, pieces=pieces)
        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()

    return write


def text_writer(llm: "LLM", file: IO[str]) -> Callable[[Trajectory], None]:
    """Return a function that writes the text of a response; a terminal gets no control characters."""
    from unmask.runs.print import visible

    def write(trajectory: Trajectory) -> None:
        text = llm.text(trajectory)
        file.write(f"{visible(text) if file.isatty() else text}\n")

    return write
