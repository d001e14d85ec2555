"""Reinforcement learning: the loop of `unmask rl`.

    prompts -> engine -> trajectories -> rewards -> advantages -> views -> loss -> update
                 ^                                                                   |
                 +-------------------------------- weights <-------------------------+

One process has one copy of the weights: the learner writes the module that the engine samples from, so
a weight sync is a version number. Of several processes (`world`) each writes and grades a share of the responses
and computes a share of the packs; everything else is computed by all of them from the same data. With
`rollout.workers`, engines in other processes write the responses (`rollouts/build.py`).
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from unmask.configs.rl import RLConfig
from unmask.data.shuffled import Shuffled
from unmask.diffusion.layout import check_budget
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.rewards.build import build_rewards
from unmask.rollouts.batch import Batch
from unmask.rollouts.build import open_rollouts
from unmask.rollouts.collect import check_room, grade_trajectories
from unmask.rollouts.drafts import draft_metrics, write_drafts
from unmask.rollouts.metrics import rollout_metrics
from unmask.rollouts.records import rollout_records
from unmask.rollouts.shaping import forfeit_overlong, shaping_metrics
from unmask.runs.clock import Clock
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.trainers.alarms import Alarms
from unmask.trainers.rl_update import build_update
from unmask.trainers.rollout_views import check_train_block, recorded_advantages, rollout_views
from unmask.trainers.run import open_training
from unmask.trainers.start import prepare, saved_critic
from unmask.trainers.sync import sync_weights
from unmask.types import Prompt


def train_rl(config: RLConfig, resume: bool = False, world: World = ALONE) -> Path:
    """Train by RL and return the directory of the trained model.

    Args:
        config: the run; `views`, `advantage` and `loss` are its method.
        resume: go on from the last checkpoint of `run.dir`, if there is one.
        world: the ranks that train together, each of which calls this function.

    Raises:
        ValueError: for what the config asks and cannot have, naming the key.
    """
    start = prepare(config, resume, world)
    config = config.model_copy(update={"optimizer": start.config.optimizer})
    llm, task = start.llm, start.task
    count = config.rollout.responses
    with world.together("data"):
        rewards = build_rewards(config, llm.require_tokenizer(), llm.model.device)
        prompts = llm.tokenize(task.prompts("train"), config.sampling.writes)
        check_fit(llm, prompts, config.sampling.to_params(n=count), config)
        source = Shuffled(prompts, config.run.seed)
        update = build_update(config, llm.model, saved_critic(config), world)
    alarms = Alarms(config.alarm, llm.model.dtype, llm.model.is_batch_invariant)

    def upcoming(ahead: int) -> list[Prompt]:
        drawn = source.ahead((ahead - 1) * config.rollout.prompts, config.rollout.prompts)
        return [draw.item for draw in drawn]

    with (
        open_rollouts(config, llm, upcoming, world) as rollouts,
        open_training(start, source, update.learner, update.value) as run,
    ):
        for step in run.steps():
            seed, clock = derive_seed(config.run.seed, step), Clock()
            batch = Batch(config.rollout.prompts, config.filter)
            with world.together("alarms"):
                alarms.stop_if_stuck()
            while batch.is_open:
                drawn = [draw.item for draw in source.draw(batch.missing)]
                world.check_equal(f"prompts at step {step}", partial(_digests, drawn))
                with world.together("rollout"):
                    with clock("rollout"):
                        trajectories = rollouts.write(step, drawn, batch.seed(seed))
                    with clock("reward"):
                        graded = grade_trajectories(llm, task, trajectories, count, rewards)
                batch.add(forfeit_overlong(world.gather_shares(graded), config.shaping))
            trained = batch.kept
            if num_drafts := config.rollout.drafts:
                with world.together("drafts"):
                    with clock("rollout"):
                        drafts = write_drafts(llm, world.share(batch.kept), num_drafts)
                    with clock("reward"):
                        graded = grade_trajectories(llm, task, drafts, count * num_drafts, rewards)
                trained = forfeit_overlong(world.gather_shares(graded), config.shaping)
            with clock("update"):
                with world.together("views"):
                    spec = llm.model.spec
                    views = rollout_views(trained, config, spec.is_full, step, spec.is_shifted)
                metrics = update.step(trained, views, step, seed)
            metrics |= sync_weights(llm.engine, update.learner, world, clock)
            seconds = max(world.gather(clock.stages["rollout"].wall))
            metrics |= rollout_metrics(batch.groups, batch.kept, seconds)
            metrics |= batch.numbers() | shaping_metrics(batch.groups, config.shaping)
            metrics |= draft_metrics(trained) if num_drafts else {}
            metrics |= rollouts.metrics() | alarms.check(step, metrics)
            advantages = recorded_advantages(trained, views, config)
            limit, directory = config.run.trajectories, config.run.dir
            records = rollout_records(batch.groups, llm, limit, step, advantages, directory)
            run.end_step(step, metrics, clock, records)
        return run.finish()


def check_fit(
    llm: LLM, prompts: Sequence[Prompt], sampling: SamplingParams, config: RLConfig
) -> None:
    """Refuse prompts whose longest trajectory the model or the learner could not hold.

    Raises:
        ValueError: naming the key and the numbers.
    """
    check_room(llm, prompts, sampling)
    spec = llm.model.spec
    check_train_block(config.views, sampling.block_size, spec)
    longest = max(len(prompt.token_ids) for prompt in prompts) + sampling.max_tokens
    for block in (spec.require_block(sampling.block_size), *config.views.train_blocks):
        check_budget(longest, block, config.optimizer.token_budget)


def _digests(prompts: Sequence[Prompt]) -> list[tuple[int, bytes]]:
    return [(prompt.uid, prompt.digest) for prompt in prompts]
