"""Reinforcement learning along the trajectory (TraceRL): the loop of `unmask rl`.

    prompts -> engine -> trajectories -> rewards -> advantages -> views -> surrogate -> update
                 ^                                                                        |
                 +-------------------------------- weights <------------------------------+

One process, one copy of the weights: the learner writes the module that the engine samples from, so
a weight sync is a version number.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from unmask.configs.rl import RLConfig
from unmask.data.shuffled import Shuffled
from unmask.diffusion.layout import check_budget
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.objectives.advantages import group_advantages
from unmask.rollouts.collect import check_room, grade_trajectories, write_trajectories
from unmask.rollouts.filters import is_kept
from unmask.rollouts.numbers import rollout_numbers
from unmask.rollouts.records import rollout_records
from unmask.runs.clock import Clock
from unmask.runs.directory import check_run, open_run
from unmask.runs.metrics import check_metrics, open_metrics
from unmask.runs.progress import Progress
from unmask.runs.trajectories import total_reward
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.trainers.alarms import Alarms
from unmask.trainers.evaluator import Evaluator
from unmask.trainers.keeper import Keeper, starting_model
from unmask.trainers.learner import Learner
from unmask.trainers.policy_update import PolicyUpdate
from unmask.trainers.schedule import learning_rate
from unmask.types import Group, Prompt, SamplingParams
from unmask.viewer.live import LiveReport

SHOWN = ("reward", "accuracy", "tokens_per_s", "eval_accuracy")


def train_rl(config: RLConfig, resume: bool = False) -> Path:
    """Train by TraceRL and return the directory of the trained model.

    Args:
        config: the run.
        resume: go on from the last checkpoint of `run.dir`, if there is one.

    Raises:
        ValueError: for what the config asks and cannot have, naming the key.
    """
    check_trainable(config)
    check_run(config, resume)
    check_metrics(config)
    torch.set_num_threads(config.run.threads)
    llm = build_llm(starting_model(config), config.engine)
    task = build_task(config.task)
    prompts = llm.tokenize(task.prompts("train"))
    count = config.rollout.responses
    sampling = config.sampling.to_params(n=count)
    check_fit(llm, prompts, sampling, config.optimizer.token_budget)
    source = Shuffled(prompts, config.run.seed)
    learner = Learner(llm.model, config.optimizer)
    policy_update = PolicyUpdate(learner, config)
    alarms = Alarms(config.alarm, llm.model.dtype)
    evaluator = Evaluator(llm, task, config.eval, config.sampling, config.run.seed)
    run = open_run(config, resume)  # last: a mistake above must leave nothing in the way

    with (
        closing(task),
        open_metrics(run, config) as metrics,
        LiveReport(run.path) as report,
        Keeper(run, config, llm, learner, source) as keeper,
        Progress(config.steps, "RL", keeper.step) as bar,
    ):
        metrics.cut_back(keeper.step)
        for step in range(keeper.step + 1, config.steps + 1):
            seed, clock = derive_seed(config.run.seed, step), Clock()
            rate = learning_rate(config.optimizer, step - 1, config.steps)
            with clock("rollout"):
                prompts = source.draw(config.rollout.prompts)
                trajectories = write_trajectories(llm, prompts, sampling, seed)
            with clock("reward"):
                groups = grade_trajectories(llm, task, trajectories, count)
            with clock("update"):
                kept = [group for group in groups if is_kept(group, config.filter)]
                numbers = policy_update(trajectory_views(kept, config), seed, rate)
                llm.engine.update_weights()
            numbers |= rollout_numbers(groups, kept, clock.stages["rollout"].wall)
            numbers |= alarms.check(step, numbers)
            if evaluator.is_due(step, config.steps):
                with clock("eval"):
                    numbers |= evaluator.measure()
            metrics.log(step=step, **numbers, **clock.numbers())
            run.record(rollout_records(groups, llm, config.run.trajectories, step))
            bar.advance(1, **{name: numbers[name] for name in SHOWN if name in numbers})
            report.refresh()
            keeper.after(step, numbers)
        return keeper.finish()


def check_trainable(config: RLConfig) -> None:
    """Refuse what would train on the wrong numbers, or not at all.

    Raises:
        ValueError: for rollouts whose log-probabilities are not those of the policy, and for a KL
            penalty that has no gradient.
    """
    if config.sampling.temperature == 0:
        raise ValueError(
            "sampling.temperature = 0 writes the most likely token, which is no draw from the "
            "policy: RL needs a temperature above 0"
        )
    sampling = config.sampling.to_params()
    if sampling.is_filtered:
        raise ValueError(
            "sampling.top_k, top_p and min_p must be off in RL: the learner's log-probabilities "
            "are over every token, the filtered ones are not"
        )
    if sampling.guidance:
        raise ValueError(
            f"sampling.guidance = {sampling.guidance} must be 0 in RL: guided responses are not "
            "drawn from the policy"
        )
    if sampling.revises:
        raise ValueError(
            "sampling.edit_threshold and remask_threshold must be off in RL: no single denoising "
            "step wrote a token that was changed later"
        )
    if config.objective.kl > 0 and config.minibatches == 1:
        raise ValueError(
            f"objective.kl = {config.objective.kl} has no effect with minibatches = 1: the only "
            "update starts at the policy it is measured from; set minibatches = 2 or kl = 0"
        )


def check_fit(
    llm: LLM, prompts: Sequence[Prompt], sampling: SamplingParams, token_budget: int
) -> None:
    """Refuse prompts whose longest trajectory the model or the learner could not hold.

    Raises:
        ValueError: naming the key and the numbers.
    """
    check_room(llm, prompts, sampling)
    longest = max(len(prompt.token_ids) for prompt in prompts) + sampling.max_tokens
    check_budget(longest, sampling.block_size or llm.model.spec.require_trainable(), token_budget)


def trajectory_views(groups: Sequence[Group], config: RLConfig) -> list[Views]:
    """Return the views of every trajectory, weighted by its advantage over its group."""
    return [
        views_of_trajectory(
            trajectory, advantage, config.objective.shrink, config.objective.post_num
        )
        for group in groups
        for trajectory, advantage in zip(
            group.trajectories,
            group_advantages([total_reward(r) for r in group.rewards], config.advantage.baseline),
            strict=True,
        )
    ]
