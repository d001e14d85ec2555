"""The responses of an evaluation: the list of requests, and each response on disk once it is written.

A response is named by its sampling, its problem and its number. Its seed follows from (run seed, prompt,
number), so it does not depend on time or batch: a run that was killed requests only the missing
responses. Samplings are written one after the other, so that seconds can be attributed to each.

Several ranks write at the same time, each its share of what is missing, into files of its own
(`rank_files.py`). The seconds of a response are divided by the number of ranks, so that their sum is the mean
time of a rank, at whatever numbers of ranks a run was resumed.

A response that cannot be written (the logits were not finite, or the problem leaves no room) is recorded
in `failures.jsonl` and not requested again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from unmask.configs.sampling import SamplingConfig
from unmask.distributed.parts import Steps, in_rounds, on_main
from unmask.distributed.world import ALONE, World
from unmask.engine.events import Finished
from unmask.engine.llm import LLM
from unmask.evaluation.rank_files import NAMES, file_of_rank, keys_there, merge
from unmask.rollouts.checks import check_trajectory
from unmask.rollouts.collect import seeded_requests
from unmask.runs.directory import RunDirectory
from unmask.runs.files import append_lines
from unmask.runs.gradings import KEY_NAMES, Key
from unmask.runs.images import keep_images
from unmask.runs.progress import Progress
from unmask.runs.trajectories import grid_ids, prompt_images, trajectory_record
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory


@dataclass(frozen=True, slots=True)
class Ask:
    """The request for one response."""

    key: Key
    prompt: Prompt
    sampling: SamplingParams

    @property
    def name(self) -> dict[str, str | int]:
        """The key as the fields of a record."""
        return dict(zip(KEY_NAMES, self.key, strict=True))


def plan_responses(
    prompts: Sequence[Prompt], samplings: Mapping[str, SamplingConfig], samples: int, seed: int
) -> list[Ask]:
    """Return the requests for all responses of an evaluation, sampling by sampling.

    Args:
        prompts: with `token_ids` filled in.
        samplings: by name; all draw with the same seeds.
        samples: responses per prompt.
        seed: first part of every response's seed.
    """
    asks: list[Ask] = []
    for variation, sampling in samplings.items():
        asked, params = seeded_requests(prompts, sampling.to_params(n=samples), seed)
        asks += [
            Ask((variation, *divmod(place, samples)), *request)
            for place, request in enumerate(zip(asked, params, strict=True))
        ]
    return asks


def write_missing(run: RunDirectory, llm: LLM, asks: Sequence[Ask], world: World = ALONE) -> None:
    """Write the responses that are not on disk, every rank its share of them.

    Args:
        run: its directory.
        llm: writes the responses.
        asks: all of the evaluation, the same on every rank.
        world: the ranks.
    """
    done = on_main(world, "responses", lambda: keys_there(run.path))
    missing = [ask for ask in asks if ask.key not in done]
    start, tokens = time.perf_counter(), 0
    with Progress(len(asks), "eval", done=len(asks) - len(missing)) as bar:

        def show(lengths: Sequence[int]) -> None:
            nonlocal tokens
            if lengths:
                tokens += sum(lengths)
                bar.advance(len(lengths), tokens_per_s=tokens / (time.perf_counter() - start))

        in_rounds(world, "responses", _write(run, llm, world.share(missing), world), show)
    order = {ask.key: place for place, ask in enumerate(asks)}

    def finish() -> None:
        merge(run.path, order, world.size)
        run.sync()

    on_main(world, "responses", finish)


def _write(run: RunDirectory, llm: LLM, asks: Sequence[Ask], world: World) -> Steps[int]:
    """Write responses, and yield after each pass the lengths of those that ended, 0 for a failure."""
    files = [file_of_rank(run.path / name, world.rank) for name in NAMES]
    for _, part in groupby(asks, key=lambda ask: ask.key[0]):
        waiting: dict[int, Ask] = {}
        before = time.perf_counter()
        try:
            for ask in part:
                try:
                    waiting[llm.engine.submit(ask.prompt, ask.sampling)] = ask
                except ValueError as error:
                    yield [_record(files, llm, ask, error, 0.0)]
            while not llm.engine.is_idle:
                lengths: list[int] = []
                for event in llm.engine.tick():
                    if isinstance(event, Finished):
                        wall_s = (time.perf_counter() - before) / world.size
                        ask = waiting[event.request_id]
                        lengths.append(_record(files, llm, ask, event.result, wall_s))
                        before = time.perf_counter()
                yield lengths
        except BaseException:
            llm.engine.abort()
            raise


def _record(
    files: Sequence[Path], llm: LLM, ask: Ask, result: Trajectory | ValueError, wall_s: float
) -> int:
    """Append a response, or its failure, to its file, and return the response's length."""
    written, failed = files
    if isinstance(result, ValueError):
        append_lines(failed, [{**ask.name, "error": str(result)}])
        return 0
    check_trajectory(result)
    pieces = llm.pieces(grid_ids(result))
    record = trajectory_record(result, llm.text(result), reward=None, step=0, pieces=pieces)
    keep_images(written.parent, prompt_images(result.prompt))
    append_lines(written, [{**ask.name, "wall_s": wall_s, **record}])
    return result.num_response
