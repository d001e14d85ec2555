"""Supervised fine-tuning by masked diffusion: the loop of `unmask sft`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from unmask.checkpoints.tokenizer import Tokenizer
from unmask.configs.methods import partner
from unmask.configs.methods.view_section import ViewSection
from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import (
    Demonstration,
    Vocabulary,
    demonstrations_of_answers,
    demonstrations_of_source,
    vocabulary_of,
)
from unmask.data.shuffled import Shuffled
from unmask.diffusion.layout import check_budget
from unmask.diffusion.noise import elbo_weights
from unmask.diffusion.views import Canvas, Views
from unmask.engine.llm import LLM
from unmask.models.spec import ModelSpec
from unmask.objectives.reduce import reduction_weights
from unmask.runs.clock import Clock
from unmask.seeds import derive_seed
from unmask.tasks.task import Task
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective, reweighted
from unmask.trainers.rollout_views import check_fits_model
from unmask.trainers.run import open_training
from unmask.trainers.schedule import learning_rate
from unmask.trainers.start import prepare


def train_sft(config: SFTConfig, resume: bool = False) -> Path:
    """Train on demonstrations and return the directory of the trained model.

    Args:
        config: the run; `views` and `loss` are its method.
        resume: go on from the last checkpoint of `run.dir`, if there is one.

    Raises:
        ValueError: for what the config asks and cannot have, naming the key.
    """
    start = prepare(config, resume)
    llm, task = start.llm, start.task
    demonstrations = read_demonstrations(config, task, llm)
    longest = max(len(d.response_ids) for d in demonstrations)
    fewest = fewest_positions(config, demonstrations)
    source = Shuffled(demonstrations, config.run.seed)
    learner = Learner(llm.model, config.optimizer)
    objective = build_supervised_objective(config)

    with open_training(start, source, learner) as run:
        for step in run.steps():
            clock = Clock()
            with clock("update"):
                batch = source.draw(config.data.batch_size)
                views = noisy_views(batch, config, llm.model.spec, step, fewest)
                views, total = weighted_views(views, config, longest)
                rate = learning_rate(config.optimizer, step - 1, config.steps)
                update = learner.update(views, objective, total, rate)
                llm.engine.update_weights()
            metrics = {"loss": update.loss, **update.values}
            seconds = clock.stages["update"].wall
            metrics["packed_tokens_per_s"] = metrics["packed_tokens"] / seconds
            run.end_step(step, metrics, clock)
        return run.finish()


def read_demonstrations(config: SFTConfig, task: Task, llm: LLM) -> list[Demonstration]:
    """Return the demonstrations of `[data]`, or those of the task.

    Raises:
        ValueError: if there are none, or one does not fit the model.
    """
    tokenizer, spec = llm.require_tokenizer(), llm.model.spec
    vocabulary = vocabulary_of(tokenizer, spec.eos_ids, llm.model.head.drawable.tolist())
    pads = trained_pads(config, tokenizer)
    found = [
        replace(d, response_ids=d.response_ids + pads)
        for d in iterate_demonstrations(config, task, vocabulary)
    ]
    check_fit(found, config, spec)
    return found


def iterate_demonstrations(
    config: SFTConfig, task: Task, vocabulary: Vocabulary
) -> Iterator[Demonstration]:
    """Yield the demonstrations of `[data]`, or those of the task, as they are read.

    Raises:
        ValueError: if there are none, or as `demonstrations_of_source`.
    """
    if config.data.path or config.data.hub:
        found = demonstrations_of_source(config.data, "data", vocabulary)
        place = f"path = {config.data.path}" if config.data.path else f"hub = {config.data.hub}"
        missing = f"data.{place}: holds no demonstrations"
    else:
        answers = ((p, task.demonstration(p)) for p in task.prompts("train"))
        right = ((prompt, text) for prompt, text in answers if text is not None)
        found = demonstrations_of_answers(right, vocabulary)
        missing = f"task {task.name!r} has no demonstrations: give data.path"
    is_empty = True
    for demonstration in found:
        is_empty = False
        yield demonstration
    if is_empty:
        raise ValueError(missing)


def trained_pads(config: SFTConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the `views.post_num` pad tokens that are trained right of every response.

    Raises:
        ValueError: if the tokenizer has neither a pad token nor an end-of-text token.
    """
    if config.views.post_num == 0:
        return ()
    pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if pad_id is None:
        raise ValueError(
            f"views.post_num = {config.views.post_num}: the tokenizer has no pad token and no "
            "end-of-text token to train there"
        )
    return (pad_id,) * config.views.post_num


def check_fit(found: Sequence[Demonstration], config: SFTConfig, spec: ModelSpec) -> None:
    """Refuse demonstrations that the model or the learner could not hold, and keys of another attention.

    Raises:
        ValueError: naming the key and the numbers.
    """
    fewest = fewest_positions(config, found)
    if fewest and not spec.is_full:
        raise ValueError(
            f"data.canvas_tokens = {config.data.canvas_tokens} is for models with full attention: a "
            f"block of {spec.family} attends to nothing right of it"
        )
    check_fits_model(config.views, spec)
    missing = sum(d.step_map is None for d in found) if config.views.needs_step_map else 0
    if missing:
        raise ValueError(
            f'views.kind = "{config.views.kind}" needs a step_map of every demonstration, and {missing} '
            f"of {len(found)} have none: `unmask trace` records them"
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
            + (", or lower data.canvas_tokens" if fewest else "")
        )
    for block in layout_blocks(config.views, spec):
        check_budget(longest, block, config.optimizer.token_budget)


def layout_blocks(views: ViewSection, spec: ModelSpec) -> tuple[int | None, ...]:
    """Return the block sizes that demonstrations are laid out in; `None` is the whole sequence."""
    if views.is_causal:
        return (1,)
    return (None,) if spec.is_full else (spec.require_block(), *views.train_blocks)


def fewest_positions(config: SFTConfig, found: Sequence[Demonstration]) -> int:
    """Return the fewest positions of a canvas under full attention; 0 is no minimum."""
    asked = config.data.canvas_tokens
    return max(len(d.response_ids) for d in found) if asked == "longest" else asked or 0


def noisy_views(
    batch: Sequence[Demonstration], config: SFTConfig, spec: ModelSpec, step: int, fewest: int
) -> list[Views]:
    """Return fresh noisy views of a batch, on canvases of at least `fewest` positions.

    The noise of a demonstration depends on the run's seed, the step and its place in the batch.
    """
    return partner(config.views, "unmask.diffusion.methods").of_demonstrations(
        [(d.prompt_ids, d.response_ids, d.step_map) for d in batch],
        config.views,
        Canvas(config.views.train_block_at(step) or spec.require_block(), spec.is_full, fewest),
        [derive_seed(config.run.seed, step, place) for place in range(len(batch))],
    )


def weighted_views(
    views: Sequence[Views], config: SFTConfig, length: int
) -> tuple[Sequence[Views], float]:
    """Return views weighted for the loss, and the denominator of the weighted sum.

    With weight one the average is over hidden tokens. The ELBO's is over all response tokens, hidden
    or not: dividing by the hidden ones would cancel the 1/t that makes it a bound.

    Args:
        views: of a batch.
        config: of the run.
        length: the constant length of `constant`: the longest response of the data.
    """
    if config.loss.weight == "elbo":
        views = [replace(v, weight=elbo_weights(_level(v))) for v in views]
        counts = [(v.weight > 0).sum(-1) for v in views]
    else:
        counts = [v.target.sum(-1) for v in views]
    weights, total = reduction_weights(counts, config.loss.reduction, length)
    # The weights of `tokens` are one: multiplying by them would only widen the loss to fp64.
    if config.loss.reduction != "tokens":
        views = reweighted(views, weights)
    return views, max(total, 1.0)


def _level(views: Views) -> Tensor:
    assert views.noise_level is not None, (
        "SFTConfig refuses the ELBO for views without noise levels"
    )
    return views.noise_level
