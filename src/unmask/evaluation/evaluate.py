"""Evaluation: a model's responses to held-out problems, and their summary.

`evaluate` measures in memory, during training. `evaluate_model` is `unmask eval`: a run directory that
holds everything the metrics depend on, can be resumed after any kill, and can be graded again without
generating again.

    protocol.json        chat template, resolved samplings, hash of the problems, seed
    trajectories.jsonl   every response with its step map; failures.jsonl those that could not be written
    gradings/N/          verdicts, the grader's settings and versions, and the summary of that grading
    summary.json         of the last grading; equal to the bit for interrupted and uninterrupted runs
    speed.json           forward passes and seconds, which are measurements

Several ranks write and grade shares of the responses (`rank_files.py`); the directory at the end is that of one
process.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from unmask.configs.eval import EvalConfig
from unmask.distributed.parts import on_main
from unmask.distributed.world import ALONE, World
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.engine.request import resolve
from unmask.evaluation.grading import PROTOCOL, digest, grade_run, problems_of
from unmask.evaluation.rank_files import FAILURES
from unmask.evaluation.responses import Ask, plan_responses, write_missing
from unmask.evaluation.summary import Response, Speed, Summary, outcome_of, speed_of, summarize
from unmask.json_files import read_object, read_objects
from unmask.rollouts.collect import grade_trajectories, write_trajectories
from unmask.runs.directory import TRAJECTORIES, RunDirectory, check_run, open_run
from unmask.runs.files import write_json
from unmask.runs.gradings import gradings, key_of, verdicts_by_problem
from unmask.runs.progress import Progress
from unmask.runs.text_table import align
from unmask.runs.trajectories import total_reward
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.types import Group, Prompt, Trajectory

# Separates evaluation draws from training draws of the same run seed.
EVALUATION = 2**32
SUMMARY = "summary.json"
# Fields that a `Response` takes from the record of its trajectory.
MEASURED = ("num_response", "num_denoising_steps", "num_forwards", "finish")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Summaries and speeds of an evaluation, by the name of the sampling."""

    summaries: Mapping[str, Summary]
    speeds: Mapping[str, Speed]

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics of each sampling for JSON, with the measurements under `speed`."""
        return {
            name: {**summary.to_dict(), "speed": asdict(self.speeds[name])}
            for name, summary in self.summaries.items()
        }

    def table(self) -> str:
        """Return the main metrics as text, one line per sampling."""
        rows = [
            ["", "accuracy", "95 % interval", "tokens/forward", "tokens/s", "not graded", "failed"]
        ]
        for name, summary in self.summaries.items():
            (low, high), speed, outcomes = summary.ci95, self.speeds[name], summary.outcomes
            rows.append(
                [
                    name,
                    f"{summary.accuracy:.1%}",
                    f"{low:.1%} .. {high:.1%}",
                    f"{speed.tokens_per_forward:.2f}",
                    f"{speed.tokens_per_s:.0f}",
                    str(outcomes["timeout"] + outcomes["crash"] + outcomes["unfit"]),
                    str(outcomes["failed"]),
                ]
            )
        return align(rows, right=range(1, len(rows[0])))


def evaluate(
    llm: LLM,
    task: Task,
    prompts: Sequence[Prompt],
    sampling: SamplingParams,
    seed: int = 0,
    world: World = ALONE,
) -> tuple[Summary, list[Group]]:
    """Return the summary and the graded responses to every prompt; equal seeds give equal draws.

    Args:
        llm: the model.
        task: grades the responses.
        prompts: with `token_ids` filled in.
        sampling: parameters of the responses; `n` responses per prompt.
        seed: key of the draws.
        world: the ranks, which share the prompts; each returns all responses.
    """
    key = derive_seed(seed, EVALUATION)
    start, tokens = time.perf_counter(), 0
    with world.together("evaluation"):
        with Progress(len(world.share(prompts)) * sampling.n, "eval") as bar:

            def show(trajectory: Trajectory) -> None:
                nonlocal tokens
                tokens += trajectory.num_response
                bar.advance(1, tokens_per_s=tokens / (time.perf_counter() - start))

            trajectories = write_trajectories(llm, prompts, sampling, key, show, world)
        own = grade_trajectories(llm, task, trajectories, sampling.n)
    groups = world.gather_shares(own)
    return summarize([_responses_of_group(group, llm, task) for group in groups]), groups


def _responses_of_group(group: Group, llm: LLM, task: Task) -> list[Response]:
    found: list[Response] = []
    for place, trajectory in enumerate(group.trajectories):
        reward = total_reward(group.rewards[place], trajectory.step_map)
        outcome = outcome_of(reward, {name: v[place] for name, v in group.parts.items()})
        counts = trajectory.num_response, trajectory.num_steps, trajectory.num_forwards
        answer = task.answer(llm.text(trajectory))
        found.append(Response(reward, outcome, answer, *counts, trajectory.finish))
    return found


def evaluate_model(config: EvalConfig, resume: bool = False, world: World = ALONE) -> Evaluation:
    """Evaluate a checkpoint and write all responses, verdicts and metrics to the run directory.

    Args:
        config: the run's.
        resume: whether to continue an existing run, at any number of ranks.
        world: the ranks, each of which writes and grades its share of the responses.

    Raises:
        ValueError: as `check_run`; a problem leaves no room and `unfit = "refuse"`; no response could
            be written; or the protocol of the resumed run, or of another rank, differs.
    """
    resume = resume or world.is_restart
    on_main(world, "start", lambda: check_run(config, resume))
    torch.set_num_threads(config.run.threads)
    with ExitStack() as stack:
        with world.together("start"):
            llm = build_llm(config.model, config.engine)
            task = stack.enter_context(closing(build_task(config.task)))
            problems = problems_of(config, task)
            prompts = llm.tokenize(problems)
            asks = _plan(config, llm, prompts)
            protocol = _protocol(config, task, llm, prompts)
        world.check_equal("problems or model settings", lambda: protocol)
        run = RunDirectory(config.run.dir)
        with world.together("start"):
            if world.is_main:
                opened = open_run(config, resume, task.isolation, llm.engine.attention)
                stack.callback(opened.close)
                _keep_protocol(run.path / PROTOCOL, protocol)
        write_missing(run, llm, asks, world)
        if not on_main(world, "gradings", lambda: gradings(run.path)):
            grade_run(run.path, config, task, problems, world)
        return on_main(world, "summary", lambda: conclude(run.path))


def _plan(config: EvalConfig, llm: LLM, prompts: Sequence[Prompt]) -> list[Ask]:
    seed = derive_seed(config.run.seed, EVALUATION)
    asks = plan_responses(prompts, config.samplings, config.samples, seed)
    if config.unfit == "refuse":
        for ask in asks:
            llm.engine.resolve(ask.prompt, ask.sampling)
    return asks


def conclude(run: Path) -> Evaluation:
    """Summarize an evaluation under its last grading, and write `summary.json` and `speed.json`.

    Raises:
        ValueError: no response of a sampling could be written; names the first reason.
    """
    found = _read_responses(run)
    for name, problems in found.items():
        if all(r.outcome == "failed" for responses in problems for r in responses):
            first = next(r["error"] for r in read_objects(run / FAILURES) if r["variation"] == name)
            raise ValueError(f"{name}: no response could be written: {first}")
    evaluation = Evaluation(
        {name: summarize(problems) for name, problems in found.items()},
        {name: speed_of(problems) for name, problems in found.items()},
    )
    summaries = {name: summary.to_dict() for name, summary in evaluation.summaries.items()}
    speeds = {name: asdict(speed) for name, speed in evaluation.speeds.items()}
    write_json(gradings(run)[-1] / SUMMARY, {"samplings": summaries})
    write_json(run / "speed.json", {"samplings": speeds})
    write_json(run / SUMMARY, {"samplings": summaries})  # last: its presence marks a finished run
    return evaluation


def _read_responses(run: Path) -> dict[str, list[list[Response]]]:
    """Return the responses of a run by sampling and problem, in the order of the protocol."""
    written = {
        key_of(record): {name: record[name] for name in (*MEASURED, "wall_s")}
        for record in read_objects(run / TRAJECTORIES)
    }
    verdicts = verdicts_by_problem(run)
    return {
        sampling: [
            [
                Response(v["reward"], v["outcome"], v["answer"], **written.get(key_of(v), {}))
                for v in of_problem
            ]
            for of_problem in verdicts[sampling]
        ]
        for sampling in read_object(run / PROTOCOL)["samplings"]
    }


def _protocol(
    config: EvalConfig, task: Task, llm: LLM, prompts: Sequence[Prompt]
) -> dict[str, Any]:
    """Return the inputs of the responses beyond the configuration."""
    token_ids = json.dumps([prompt.token_ids for prompt in prompts])
    shortest = min(prompts, key=lambda prompt: len(prompt.token_ids))
    return {
        "task": config.task.name,
        "split": config.split,
        "problems": len(prompts),
        "left_out": len(task.left_out(config.split)),
        "problems_sha256": digest(prompts),
        "prompts_sha256": hashlib.sha256(token_ids.encode()).hexdigest(),
        "samples": config.samples,
        "seed": config.run.seed,
        "chat_template": llm.require_tokenizer().chat_template,
        "block_size": llm.model.spec.block_size,
        "samplings": {
            name: asdict(resolve(shortest, sampling.to_params(), llm.model.spec))
            for name, sampling in config.samplings.items()
        },
    }


def _keep_protocol(place: Path, protocol: Mapping[str, Any]) -> None:
    """Write the protocol of a new run, or compare it with the protocol of a resumed one.

    Raises:
        ValueError: naming the entry that differs.
    """
    now = json.loads(json.dumps(protocol))
    if not place.is_file():
        write_json(place, now)
        return
    before = read_object(place)
    for name in before:
        if before[name] != now.get(name):
            raise ValueError(
                f"{place}: {name} differs from its value when the run began: the model's or the "
                "task's files have changed; start another run (run.dir=...)"
            )
