"""The update that one RL step of the quickstart takes."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from setting import quickstart_config, train_quickstart_model
from update_workloads import Workload

from unmask.configs.rl import RLConfig
from unmask.engine.build import build_llm
from unmask.rollouts.collect import grade_trajectories, write_trajectories
from unmask.rollouts.filters import is_kept
from unmask.tasks.build import build_task
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.pack_budget import build_budget, lengths_of
from unmask.trainers.rollout_views import rollout_views


def chain_sum(arguments: argparse.Namespace, directory: Path) -> Workload:
    """Return what one RL step of the quickstart trains on: the kept groups of 64 prompts, 8 answers each."""
    path = train_quickstart_model(
        "chain_sum", directory, [f"steps={arguments.sft_steps}", *arguments.task_size]
    )
    overrides = [f"rollout.prompts={arguments.prompts}", f"run.seed={arguments.seed}"]
    overrides += arguments.task_size
    if arguments.smoke:
        overrides.append("filter.drop_uniform=false")
    config = quickstart_config(RLConfig, "chain_sum", directory / "rl", path, overrides)
    llm, task = build_llm(config.model, config.engine), build_task(config.task)
    prompts = llm.tokenize(task.prompts("train"))[: config.rollout.prompts]
    sampling = config.sampling.to_params(n=config.rollout.responses)
    trajectories = write_trajectories(llm, prompts, sampling, arguments.seed)
    groups = grade_trajectories(llm, task, trajectories, config.rollout.responses)
    task.close()
    kept = [group for group in groups if is_kept(group, config.filter)]
    objective = build_policy_objective(config)
    views = rollout_views(kept, config)
    if arguments.smoke:  # an untrained model earns nothing, and no advantage is no gradient
        views = [replace(v, advantages=torch.ones_like(v.advantages)) for v in views]
    budget = build_budget(llm.model, config.optimizer.token_budget)(lengths_of(views))
    return Workload(llm.model, views, objective, budget)
