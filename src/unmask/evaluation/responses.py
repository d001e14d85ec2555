"""The responses of an evaluation: the list of requests, and each response on disk once it is written.

A response is named by its sampling, its problem and its number. Its seed follows from (run seed, prompt,
number), so it does not depend on time or batch: a run that was killed requests only the missing
responses. Samplings are written one after the other, so that seconds can be attributed to each.

A response that cannot be written (the logits were not finite, or the problem leaves no room) is recorded
in `failures.jsonl` and not requested again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from unmask.configs.sampling import SamplingConfig
from unmask.engine.llm import LLM
from unmask.json_files import read_objects
from unmask.rollouts.checks import check_trajectory
from unmask.rollouts.collect import seeded_requests
from unmask.runs.directory import TRAJECTORIES, RunDirectory
from unmask.runs.files import append_lines, cut_unfinished_line
from unmask.runs.gradings import KEY_NAMES, Key, key_of
from unmask.runs.progress import Progress
from unmask.runs.trajectories import grid_ids, trajectory_record
from unmask.types import Prompt, SamplingParams, Trajectory

FAILURES = "failures.jsonl"


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


def write_missing(run: RunDirectory, llm: LLM, asks: Sequence[Ask]) -> None:
    """Write the responses that are not on disk."""
    files = [run.path / name for name in (TRAJECTORIES, FAILURES)]
    for path in files:
        cut_unfinished_line(path)
    there = {key_of(record) for path in files for record in read_objects(path)}
    missing = [ask for ask in asks if ask.key not in there]
    with Progress(len(asks), "eval", done=len(asks) - len(missing)) as bar:
        for _, part in groupby(missing, key=lambda ask: ask.key[0]):
            _write(run, llm, list(part), bar)
    run.sync()


def _write(run: RunDirectory, llm: LLM, asks: Sequence[Ask], bar: Progress) -> None:
    """Write responses of one sampling; an exception leaves the engine without requests."""
    waiting: dict[int, Ask] = {}
    start = before = time.perf_counter()
    tokens = 0
    try:
        for ask in asks:
            try:
                waiting[llm.engine.submit(ask.prompt, ask.sampling)] = ask
            except ValueError as error:
                _record_failure(run, ask, error)
                bar.advance()
        for event in llm.engine.collect():
            wall_s = time.perf_counter() - before
            if isinstance(event.result, ValueError):
                _record_failure(run, waiting[event.request_id], event.result)
            else:
                _record(run, llm, waiting[event.request_id], event.result, wall_s)
                tokens += event.result.num_response
            before = time.perf_counter()
            bar.advance(1, tokens_per_s=tokens / (before - start))
    except BaseException:
        llm.engine.abort()
        raise


def _record(run: RunDirectory, llm: LLM, ask: Ask, written: Trajectory, wall_s: float) -> None:
    check_trajectory(written)
    pieces = llm.pieces(grid_ids(written))
    record = trajectory_record(written, llm.text(written), reward=None, step=0, pieces=pieces)
    run.record([{**ask.name, "wall_s": wall_s, **record}])


def _record_failure(run: RunDirectory, ask: Ask, error: ValueError) -> None:
    append_lines(run.path / FAILURES, [{**ask.name, "error": str(error)}])
