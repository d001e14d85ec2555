"""Reinforcement learning along the trajectory, or under random masks: the loop of `unmask rl`.

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
from unmask.engine.llm import LLM
from unmask.rewards.build import build_rewards
from unmask.rollouts.batch import Batch
from unmask.rollouts.collect import check_room, grade_trajectories, write_trajectories
from unmask.rollouts.numbers import rollout_numbers
from unmask.rollouts.records import rollout_records
from unmask.runs.clock import Clock
from unmask.runs.directory import check_run, open_run
from unmask.runs.metrics import check_metrics, open_metrics
from unmask.runs.progress import Progress
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.trainers.alarms import Alarms
from unmask.trainers.checkpointer import Keeper, kept_critic, starting_llm
from unmask.trainers.evaluator import Evaluator
from unmask.trainers.policy_views import (
    check_train_block,
    forfeit_overlong,
    penalty_numbers,
    trajectory_views,
)
from unmask.trainers.rl_update import build_update
from unmask.types import Prompt, SamplingParams
from unmask.viewer.live import LiveReport

SHOWN = ("reward", "accuracy", "tokens_per_s", "eval_accuracy")


def train_rl(config: RLConfig, resume: bool = False) -> Path:
    """Train by RL (`objective.method` says how) and return the directory of the trained model.

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
    llm = starting_llm(config)
    task = build_task(config.task)
    rewards = build_rewards(config, llm.require_tokenizer(), llm.model.device)
    prompts = llm.tokenize(task.prompts("train"))
    count = config.rollout.responses
    sampling = config.sampling.to_params(n=count)
    check_fit(llm, prompts, sampling, config)
    source = Shuffled(prompts, config.run.seed)
    update = build_update(config, llm.model, kept_critic(config))
    alarms = Alarms(config.alarm, llm.model.dtype)
    evaluator = Evaluator(llm, task, config.eval, config.sampling, config.run.seed)

    with (
        closing(task),
        # Last: a mistake above must leave nothing in the way.
        closing(open_run(config, resume, task.isolation)) as run,
        open_metrics(run, config) as metrics,
        LiveReport(run.path) as report,
        Keeper(run, config, llm, update.learner, source, update.critic) as keeper,
        Progress(config.steps, "RL", keeper.step) as bar,
    ):
        metrics.cut_back(keeper.step)
        for step in range(keeper.step + 1, config.steps + 1):
            seed, clock = derive_seed(config.run.seed, step), Clock()
            batch = Batch(config.rollout.prompts, config.filter)
            alarms.stop_if_stuck()
            while batch.is_open:
                with clock("rollout"):
                    prompts = source.draw(batch.missing)
                    trajectories = write_trajectories(llm, prompts, sampling, batch.seed(seed))
                with clock("reward"):
                    graded = grade_trajectories(llm, task, trajectories, count, rewards)
                    batch.add(forfeit_overlong(graded, config.advantage))
            with clock("update"):
                views = trajectory_views(batch.kept, config, llm.model.spec.is_full, step)
                numbers = update.step(batch.kept, views, step, seed)
                llm.engine.update_weights()
            numbers |= rollout_numbers(batch.groups, batch.kept, clock.stages["rollout"].wall)
            numbers |= batch.numbers() | penalty_numbers(batch.groups, config.advantage)
            numbers |= alarms.check(step, numbers)
            if evaluator.is_due(step, config.steps):
                with clock("eval"):
                    numbers |= evaluator.measure()
            metrics.log(step=step, **numbers, **clock.numbers())
            run.record(rollout_records(batch.groups, llm, config.run.trajectories, step))
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
    if config.engine.cache != "exact":
        raise ValueError(
            f"engine.cache = {config.engine.cache!r} must be 'exact' in RL: an approximate cache "
            "writes from other log-probabilities than the learner's"
        )
    check_objective(config)
    check_critic(config)


def check_critic(config: RLConfig) -> None:
    """Refuse settings of a critic where there is none.

    Raises:
        ValueError: naming the key.
    """
    if config.value.enabled:
        return
    stated = config.value.model_dump()
    for name, default in type(config.value)().model_dump().items():
        if stated[name] != default:
            raise ValueError(
                f"value.{name} = {stated[name]} has no effect without a critic: set "
                "value.enabled = true"
            )


def check_objective(config: RLConfig) -> None:
    """Refuse settings of the objective that would do nothing, or something else than they say.

    Raises:
        ValueError: naming the keys.
    """
    objective, advantage = config.objective, config.advantage
    if objective.kl > 0 and objective.kl_to == "step" and config.is_single_update:
        raise ValueError(
            f"objective.kl = {objective.kl} has no effect with minibatches = 1 and epochs = 1: the "
            "only update starts at the policy it is measured from; set minibatches = 2, kl = 0 or "
            'kl_to = "reference"'
        )
    if config.reference.path and objective.kl_to != "reference":
        raise ValueError(
            f"reference.path = {config.reference.path} has no effect: set "
            'objective.kl_to = "reference"'
        )
    forfeit, longest = advantage.forfeit_tokens, config.sampling.max_tokens
    if forfeit is not None and forfeit >= longest - 1:
        raise ValueError(
            f"advantage.forfeit_tokens = {forfeit} leaves no response that could earn anything with "
            f"sampling.max_tokens = {longest}: make it smaller"
        )
    if advantage.overlong_penalty and advantage.overlong_tokens > config.sampling.max_tokens:
        raise ValueError(
            f"advantage.overlong_tokens = {advantage.overlong_tokens} is more than "
            f"sampling.max_tokens = {config.sampling.max_tokens}"
        )


def check_fit(
    llm: LLM, prompts: Sequence[Prompt], sampling: SamplingParams, config: RLConfig
) -> None:
    """Refuse prompts whose longest trajectory the model or the learner could not hold.

    Raises:
        ValueError: naming the key and the numbers.
    """
    check_room(llm, prompts, sampling)
    spec = llm.model.spec
    check_train_block(config.objective, sampling.block_size, spec)
    longest = max(len(prompt.token_ids) for prompt in prompts) + sampling.max_tokens
    for block in (spec.require_block(sampling.block_size), *config.objective.train_blocks):
        check_budget(longest, block, config.optimizer.token_budget)
