"""Supervised fine-tuning by masked diffusion, in blocks or of whole responses: the loop of `unmask sft`."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from unmask.configs.sampling import SamplingConfig
from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import (
    Demonstration,
    demonstrations_of_answers,
    demonstrations_of_file,
)
from unmask.data.shuffled import Shuffled
from unmask.diffusion.layout import check_budget
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses
from unmask.engine.llm import LLM
from unmask.models.spec import ModelSpec
from unmask.objectives.reduce import reduction_weights
from unmask.runs.clock import Clock
from unmask.runs.directory import check_run, open_run
from unmask.runs.metrics import check_metrics, open_metrics
from unmask.runs.progress import Progress
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.trainers.checkpointer import Keeper, starting_llm
from unmask.trainers.evaluator import Evaluator
from unmask.trainers.learner import Learner
from unmask.trainers.losses import supervised_terms
from unmask.trainers.schedule import learning_rate
from unmask.viewer.live import LiveReport

SHOWN = ("loss", "packed_tokens_per_s", "eval_accuracy")


def train_sft(config: SFTConfig, resume: bool = False) -> Path:
    """Train on demonstrations and return the directory of the trained model.

    Args:
        config: the run.
        resume: go on from the last checkpoint of `run.dir`, if there is one.

    Raises:
        ValueError: for what the config asks and cannot have, naming the key.
    """
    check_run(config, resume)
    check_metrics(config)
    if config.task is None and config.eval.every > 0:
        raise ValueError(f"eval.every = {config.eval.every}: there is no [task] to measure on")
    torch.set_num_threads(config.run.threads)
    llm = starting_llm(config)
    task = build_task(config.task)
    demonstrations = read_demonstrations(config, task, llm)
    longest = max(len(d.response_ids) for d in demonstrations)
    fewest = fewest_slots(config, demonstrations)
    source = Shuffled(demonstrations, config.run.seed)
    learner = Learner(llm.model, config.optimizer)
    evaluator = Evaluator(llm, task, config.eval, SamplingConfig(), config.run.seed)

    with (
        closing(task),
        # Last: a mistake above must leave nothing in the way.
        closing(open_run(config, resume, task.isolation)) as run,
        open_metrics(run, config) as metrics,
        LiveReport(run.path) as report,
        Keeper(run, config, llm, learner, source) as keeper,
        Progress(config.steps, "SFT", keeper.step) as bar,
    ):
        metrics.cut_back(keeper.step)
        for step in range(keeper.step + 1, config.steps + 1):
            clock = Clock()
            with clock("update"):
                batch = source.draw(config.data.batch_size)
                views = noisy_views(batch, config, llm, step, fewest)
                views, total = weighted_views(views, config, longest)
                rate = learning_rate(config.optimizer, step - 1, config.steps)
                update = learner.update(views, supervised_terms, total, rate)
                llm.engine.update_weights()
            numbers = {"loss": update.loss, **update.statistics}
            seconds = clock.stages["update"].wall
            numbers["packed_tokens_per_s"] = numbers["packed_tokens"] / seconds
            if evaluator.is_due(step, config.steps):
                with clock("eval"):
                    numbers |= evaluator.measure()
            metrics.log(step=step, **numbers, **clock.numbers())
            bar.advance(1, **{name: numbers[name] for name in SHOWN if name in numbers})
            report.refresh()
            keeper.after(step, numbers)
        return keeper.finish()


def read_demonstrations(config: SFTConfig, task: Task, llm: LLM) -> list[Demonstration]:
    """Return what is imitated: the file's demonstrations, or the task's own.

    Raises:
        ValueError: if there are none, or one does not fit the model.
    """
    tokenizer = llm.require_tokenizer()
    drawable = llm.model.head.drawable.tolist()
    if config.data.path:
        found = demonstrations_of_file(config.data.path, tokenizer, drawable)
    else:
        prompts = task.prompts("train")
        answers = [(p, text) for p in prompts if (text := task.demonstration(p)) is not None]
        found = demonstrations_of_answers(answers, tokenizer, drawable)
    if not found:
        raise ValueError(f"task {task.name!r} has no demonstrations: give data.path")
    check_fit(found, config, llm.model.spec)
    return found


def check_fit(found: Sequence[Demonstration], config: SFTConfig, spec: ModelSpec) -> None:
    """Refuse demonstrations that the model or the learner could not hold, and a canvas for nothing.

    Raises:
        ValueError: naming the key and the numbers.
    """
    fewest = fewest_slots(config, found)
    if fewest and not spec.is_full:
        raise ValueError(
            f"noise.canvas_tokens = {config.noise.canvas_tokens} is for models with full attention: {spec.family} sees "
            "nothing right of a block"
        )
    if spec.is_shifted and not all(d.prompt_ids for d in found):
        raise ValueError(
            f"a demonstration has an empty prompt: {spec.family} predicts a token from the one "
            "before it, so it needs at least one"
        )
    longest = max(len(d.prompt_ids) + max(len(d.response_ids), fewest) for d in found)
    if longest > spec.max_length:
        raise ValueError(
            f"the longest demonstration has {longest} tokens, but the model has "
            f"{spec.max_length} positions: shorten it or leave it out"
            + (", or lower noise.canvas_tokens" if fewest else "")
        )
    check_budget(longest, spec.require_block(), config.optimizer.token_budget)


def fewest_slots(config: SFTConfig, found: Sequence[Demonstration]) -> int:
    """Return the fewest slots of a canvas under full attention; 0 is no minimum."""
    asked = config.noise.canvas_tokens
    return max(len(d.response_ids) for d in found) if asked == "longest" else asked or 0


def noisy_views(
    batch: Sequence[Demonstration], config: SFTConfig, llm: LLM, step: int, fewest: int
) -> list[Views]:
    """Return fresh noisy views of a batch, on canvases of `fewest` slots or more.

    The noise of a demonstration depends on seed, step and place.
    """
    noise = config.noise
    schedule = NoiseSchedule(
        noise.low, noise.high, noise.noise == "per_token", noise.weight == "elbo"
    )
    return views_of_responses(
        [(demonstration.prompt_ids, demonstration.response_ids) for demonstration in batch],
        llm.model.spec.require_block(),
        (schedule, noise.views),
        [derive_seed(config.run.seed, step, place) for place in range(len(batch))],
        fewest,
    )


def weighted_views(
    views: Sequence[Views], config: SFTConfig, length: int
) -> tuple[Sequence[Views], float]:
    """Lay a batch's reduction over its views' weights; return them, and what the sum is divided by.

    With weight one the average is over hidden tokens. The ELBO's is over all response tokens, hidden
    or not: dividing by the hidden ones would cancel the 1/t that makes it a bound.

    Args:
        views: of a batch.
        config: the run's.
        length: the constant length of `constant`: the longest response of the data.
    """
    is_elbo = config.noise.weight == "elbo"
    counted = [(v.weight > 0) if is_elbo else v.target for v in views]
    reduction = config.loss.reduction
    weights, total = reduction_weights([slots.sum(-1) for slots in counted], reduction, length)
    if reduction != "tokens":  # whose weights are one, and would only widen the loss to fp64
        pairs = zip(views, weights, strict=True)
        views = [replace(v, weight=v.weight * w[:, None]) for v, w in pairs]
    return views, max(total, 1.0)
