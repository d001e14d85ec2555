"""Evaluation: a model's answers to held-out problems, and what they amount to.

Accuracy is the share of answers whose score is 1.0, over all problems and samples (avg@n). Tokens
per denoising step is the number of response tokens, stop token included, over the number of
denoising passes; prefill and commits are not passes.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from unmask.configs.eval import EvalConfig
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.evaluation.metrics import Interval, mean_interval, ratio_interval, wilson_interval
from unmask.rollouts.collect import check_room, grade_trajectories, write_trajectories
from unmask.rollouts.records import rollout_records
from unmask.runs.directory import check_run, open_run
from unmask.runs.files import write_json
from unmask.runs.progress import Progress
from unmask.runs.trajectories import group_totals
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.types import Group, Prompt, SamplingParams, Trajectory

# Keeps evaluation draws apart from training draws of the same run seed.
EVALUATION = 2**32


@dataclass(frozen=True, slots=True)
class Summary:
    """What an evaluation found.

    Attributes:
        accuracy: share of answers whose score is 1.0.
        ci95: its 95 % interval: Wilson for one sample per problem, bootstrap over problems for
            more.
        reward: mean reward of an answer.
        n: problems.
        samples: answers per problem.
        tokens_per_denoising_step: response tokens over denoising passes.
        tokens_per_denoising_step_ci95: bootstrap over problems.
        response_tokens: mean response length.
        truncated: share of answers that `max_tokens` ended.
    """

    accuracy: float
    ci95: Interval
    reward: float
    n: int
    samples: int
    tokens_per_denoising_step: float
    tokens_per_denoising_step_ci95: Interval
    response_tokens: float
    truncated: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return asdict(self)


def summarize(groups: Sequence[Group]) -> Summary:
    """Return the summary of one group of answers per problem."""
    samples = len(groups[0].trajectories)
    correct = [sum(reward == 1.0 for reward in group.rewards) / samples for group in groups]
    tokens = [sum(t.num_response for t in group.trajectories) for group in groups]
    steps = [sum(t.num_denoising_steps for t in group.trajectories) for group in groups]
    cut = sum(t.finish == "length" for group in groups for t in group.trajectories)
    count = len(groups)
    return Summary(
        accuracy=sum(correct) / count,
        ci95=wilson_interval(sum(correct), count) if samples == 1 else mean_interval(correct),
        reward=sum(total for group in groups for total in group_totals(group)) / (count * samples),
        n=count,
        samples=samples,
        tokens_per_denoising_step=sum(tokens) / sum(steps),
        tokens_per_denoising_step_ci95=ratio_interval(tokens, steps),
        response_tokens=sum(tokens) / (count * samples),
        truncated=cut / (count * samples),
    )


def evaluate(
    llm: LLM,
    task: Task,
    prompts: Sequence[Prompt],
    sampling: SamplingParams,
    seed: int = 0,
) -> tuple[Summary, list[Group]]:
    """Ask every prompt and judge the answers; the same seed asks with the same random numbers.

    Args:
        llm: the model.
        task: judges.
        prompts: with `token_ids` filled in.
        sampling: how answers are unmasked, and how many (`n`) each prompt gets.
        seed: key of the draws.
    """
    key = derive_seed(seed, EVALUATION)
    start, tokens = time.perf_counter(), 0
    with Progress(len(prompts) * sampling.n, "eval") as bar:

        def show(trajectory: Trajectory) -> None:
            nonlocal tokens
            tokens += trajectory.num_response
            bar.advance(1, tokens_per_s=tokens / (time.perf_counter() - start))

        trajectories = write_trajectories(llm, prompts, sampling, key, show)
    groups = grade_trajectories(llm, task, trajectories, sampling.n)
    return summarize(groups), groups


def evaluate_model(config: EvalConfig) -> Summary:
    """Run `unmask eval`: measure a checkpoint and write `summary.json` and every answer to the run directory."""
    check_run(config)
    torch.set_num_threads(config.run.threads)
    llm = build_llm(config.model, config.engine)
    task = build_task(config.task)
    try:
        prompts = llm.tokenize(task.prompts(config.split)[: config.problems])
        sampling = config.sampling.to_params(n=config.samples)
        check_room(llm, prompts, sampling)
        run = open_run(config)
        summary, groups = evaluate(llm, task, prompts, sampling, config.run.seed)
    finally:
        task.close()
    run.record(rollout_records(groups, llm, len(prompts) * config.samples, step=0))
    write_json(run.path / "summary.json", summary.to_dict())
    return summary
