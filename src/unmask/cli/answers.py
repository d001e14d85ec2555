"""The responses of `unmask generate`: made by every rank, written by rank 0 in the order of the prompts."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import IO, NamedTuple

from unmask.cli.prompts import Asked, read_prompts, tokenized
from unmask.configs.generate import GenerateConfig
from unmask.distributed.parts import Steps, in_rounds, on_main
from unmask.distributed.world import World
from unmask.engine.build import build_llm
from unmask.engine.events import Finished
from unmask.engine.llm import LLM
from unmask.runs.print import visible
from unmask.runs.progress import Progress
from unmask.runs.trajectories import grid_ids, trajectory_record
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Prompt, Trajectory


class Response(NamedTuple):
    """A response that ended.

    Attributes:
        place: of its request, in the order of prompts and samples.
        line: as it is written; empty for an error.
        num_tokens: response tokens.
        error: the reason why there is none.
    """

    place: int
    line: str = ""
    num_tokens: int = 0
    error: str = ""


def answer_all(
    config: GenerateConfig,
    asked: Asked,
    sampling: SamplingParams,
    out: Path | None,
    world: World,
    uses_template: bool,
) -> None:
    """Write the responses to the words of a command line, as text, or to the prompts of a file, as records.

    Args:
        config: of the command.
        asked: the prompts, which rank 0 reads.
        sampling: of every response.
        out: file that is written; stdout if not given.
        world: the ranks.
        uses_template: whether prompts are rendered with the model's chat template.

    Raises:
        ValueError: as `read_prompts`, `tokenized` and `answer`.
    """
    found = on_main(world, "prompts", lambda: read_prompts(asked))
    with ExitStack() as stack:
        with world.together("start"):
            llm = build_llm(config.model, config.engine)
            prompts = tokenized(found, llm, replace(sampling, n=1), uses_template)
        file: IO[str] = sys.stdout
        with world.together("start"):
            if out and world.is_main:
                file = stack.enter_context(out.open("x", encoding="utf-8"))
        answer(llm, prompts, sampling, file, world, is_text=bool(asked.words) and not out)


def answer(
    llm: LLM,
    prompts: Sequence[Prompt],
    sampling: SamplingParams,
    file: IO[str],
    world: World,
    is_text: bool = False,
) -> None:
    """Write the responses to prompts, all of which run together, in the order of the prompts.

    Args:
        llm: the model.
        prompts: with `token_ids` and different `uid`s.
        sampling: of each; response `i` of a prompt has the seed that `LLM.generate` gives it.
        file: where lines are written; a terminal gets no control characters.
        world: the ranks, each of which makes its share of the responses; rank 0 writes.
        is_text: whether lines are the texts alone, without progress on stderr, or records.

    Raises:
        ValueError: some responses could not be written; the others are.
    """
    seeds = [derive_seed(sampling.seed, index) for index in range(sampling.n)]
    pairs = [(prompt, replace(sampling, n=1, seed=seed)) for prompt in prompts for seed in seeds]
    waiting: dict[int, Response] = {}
    errors: dict[int, str] = {}
    bar = Progress(len(pairs), "generate") if not is_text else None
    num_written = num_tokens = 0
    start = monotonic()

    def take(found: Sequence[Response]) -> None:
        nonlocal num_written, num_tokens
        if not found:
            return
        waiting.update((response.place, response) for response in found)
        num_tokens += sum(response.num_tokens for response in found)
        while response := waiting.pop(num_written, None):
            num_written += 1
            file.write(visible(response.line) if file.isatty() else response.line)
            if response.error:
                errors[response.place] = response.error
        file.flush()
        if bar:
            bar.advance(len(found), tokens_per_s=num_tokens / (monotonic() - start))

    with bar or nullcontext():
        own = world.share([*enumerate(pairs)])
        in_rounds(world, "generate", _responses(llm, own, is_text), take)
    on_main(world, "generate", lambda: _check(errors, pairs))


def _responses(
    llm: LLM,
    asked: Sequence[tuple[int, tuple[Prompt, SamplingParams]]],
    is_text: bool,
) -> Steps[Response]:
    """Yield after each pass the responses that ended; an exception leaves the engine without requests."""
    try:
        places = {llm.engine.submit(*pair): place for place, pair in asked}
        while not llm.engine.is_idle:
            found: list[Response] = []
            for event in llm.engine.tick():
                if isinstance(event, Finished):
                    place, result = places[event.request_id], event.result
                    if isinstance(result, ValueError):
                        found.append(Response(place, error=str(result)))
                    else:
                        line = f"{llm.text(result)}\n" if is_text else record_line(llm, result)
                        found.append(Response(place, line, result.num_response))
            yield found
    except BaseException:
        llm.engine.abort()
        raise


def _check(errors: Mapping[int, str], pairs: Sequence[tuple[Prompt, SamplingParams]]) -> None:
    """Refuse responses that could not be written.

    Raises:
        ValueError: naming their prompts and the first reason.
    """
    if errors:
        names = list(dict.fromkeys(f"generate prompt {pairs[place][0].uid}" for place in errors))
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise ValueError(
            f"{len(errors)} of {len(pairs)} responses could not be written ({shown}): "
            f"{next(iter(errors.values()))}; the others are written"
        )


def record_line(llm: LLM, trajectory: Trajectory) -> str:
    """Return a response as a line of JSON."""
    pieces = llm.pieces(grid_ids(trajectory))
    record = trajectory_record(trajectory, llm.text(trajectory), None, pieces=pieces)
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
