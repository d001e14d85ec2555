"""Supervised fine-tuning by masked diffusion: the loop of `unmask sft`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from unmask.checkpoints.memory import count_parameters
from unmask.configs.methods import partner
from unmask.configs.methods.view_section import ViewSection
from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.layout import check_budget
from unmask.diffusion.noise import elbo_weights
from unmask.diffusion.views import Canvas, Views, with_images
from unmask.distributed.world import ALONE, World
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model
from unmask.objectives.reduce import reduction_weights
from unmask.runs.clock import Clock
from unmask.seeds import derive_seed
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective, reweighted
from unmask.trainers.rollout_views import check_fits_model
from unmask.trainers.run import open_training
from unmask.trainers.schedule import is_due, learning_rate
from unmask.trainers.sft_data import build_source, digest, num_steps, read_sets, vocabulary_of_llm
from unmask.trainers.start import check_steps, prepare
from unmask.trainers.sync import sync_weights
from unmask.trainers.validation import VALIDATION, has_stalled, measure


def train_sft(config: SFTConfig, resume: bool = False, world: World = ALONE) -> Path:
    """Train on demonstrations and return the directory of the trained model.

    Args:
        config: the run; `views` and `loss` are its method.
        resume: go on from the last checkpoint of `run.dir`, if there is one.
        world: the ranks that train together, each of which calls this function.

    Raises:
        ValueError: for what the config asks and cannot have, naming the key.
    """
    start = prepare(config, resume, world)
    config = config.model_copy(update={"optimizer": start.config.optimizer})
    llm, spec = start.llm, start.llm.model.spec
    with world.together("data"):
        sets = read_sets(config, start.task, vocabulary_of_llm(llm), spec)
        config = config.model_copy(update={"steps": num_steps(config, sets)})
        check_steps(config)
        start = replace(start, config=config)
        demonstrations = sets.trained
        check_fit([*demonstrations, *sets.validation], config, spec)
        longest = max(len(d.response_ids) for d in demonstrations)
        fewest = fewest_positions(config, demonstrations)
        source = build_source(sets, config.run.seed)
        learner = Learner(llm.model, config.optimizer, world=world)
        objective = build_supervised_objective(config)

    operations = operations_per_token(llm.model)

    with open_training(start, source, learner) as run:
        sys.stderr.write(
            f"memory: {learner.memory} for weights and optimizer, activations come on top\n"
        )
        for step in run.steps():
            # Read from the log, which a resumed run cuts back to its checkpoint: there is no other state.
            patience = (
                config.early_stop if is_due(step - 1, config.steps, config.eval.every) else None
            )
            if (
                patience
                and world.gather(world.is_main and has_stalled(run.directory.path, patience))[0]
            ):
                run.checkpointer.save()
                sys.stderr.write(
                    f"early_stop: {patience} measurements without a new minimum of val_nll before step "
                    f"{step}; best/ holds the best model so far\n"
                )
                break
            clock = Clock()
            with clock("update"):
                drawn = source.draw(config.data.batch_size)
                batch = [draw.item for draw in drawn]
                world.check_equal(f"demonstrations at step {step}", partial(digest, batch))
                seeds = [derive_seed(config.run.seed, *draw.key) for draw in drawn]
                views = noisy_views(batch, seeds, config, spec, step, fewest)
                views, total = weighted_views(views, config, longest)
                rate = learning_rate(config.optimizer, step - 1, config.steps)
                update = learner.update(views, objective, total, rate)
            metrics = {"loss": update.loss, **update.values}
            metrics |= sync_weights(llm.engine, learner, world, clock)
            seconds = clock.stages["update"].wall
            packed = metrics["packed_tokens"]
            metrics |= throughput(batch, packed, seconds, operations, config, world.size)
            if sets.validation and is_due(step, config.steps, config.eval.every):
                with clock("eval"):
                    metrics |= validate(learner, sets.validation, config, spec, fewest)
            run.end_step(step, metrics, clock)
        sets.show_counts()
        return run.finish()


def throughput(
    batch: Sequence[Demonstration],
    packed: float,
    seconds: float,
    operations: int,
    config: SFTConfig,
    num_devices: int = 1,
) -> dict[str, float]:
    """Return the tokens per second of a step, and its share of the devices' peak if that is given.

    Args:
        batch: of the step; its prompts and responses, counted once, are the useful tokens.
        packed: tokens of the step's packs.
        seconds: of the step.
        operations: of one packed token.
        config: `peak_tflops` of a device.
        num_devices: of the run.
    """
    useful = sum(len(d.prompt_ids) + len(d.response_ids) for d in batch)
    found = {"packed_tokens_per_s": packed / seconds, "useful_tokens_per_s": useful / seconds}
    if config.peak_tflops:
        peak = config.peak_tflops * 1e12 * num_devices
        found["mfu"] = operations * packed / seconds / peak
    return found


def operations_per_token(model: Model) -> int:
    """Return `(4 + 2 s) A`, of the `A` weights that a token passes and the share `s` that is trained.

    The forward pass takes two operations of each weight, the backward pass two for the input and two for
    a weight that is trained. The products of attention, and the embedding's rows, are left out.
    """
    _, active = count_parameters(model)
    if not model.spec.is_tied:  # a tied embedding is the head's matrix
        active -= model.backbone.embedding.weight.numel()
    share = sum(p.numel() for p in model.parameters() if p.requires_grad) / sum(
        p.numel() for p in model.parameters()
    )
    return round(active * (4 + 2 * share))


def validate(
    learner: Learner,
    demonstrations: Sequence[Demonstration],
    config: SFTConfig,
    spec: ModelSpec,
    fewest: int,
) -> dict[str, float]:
    """Return the metrics of demonstrations that are never trained; see `trainers/validation.py`."""

    def views_of(batch: Sequence[Demonstration], seeds: Sequence[int]) -> list[Views]:
        return noisy_views(batch, seeds, config, spec, VALIDATION, fewest)

    return measure(learner, demonstrations, config, (spec.require_block(), fewest), views_of)


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
    batch: Sequence[Demonstration],
    seeds: Sequence[int],
    config: SFTConfig,
    spec: ModelSpec,
    step: int,
    fewest: int,
) -> list[Views]:
    """Return noisy views of a batch, on canvases of at least `fewest` positions.

    Args:
        batch: demonstrations.
        seeds: of the noise of each; the run's come from its seed, the pass over the data and the
            demonstration's number in it.
        config: of the run.
        spec: of the model.
        step: of the run, which the training block may depend on.
        fewest: positions of a canvas under full attention.
    """
    views = partner(config.views, "unmask.diffusion.methods").of_demonstrations(
        [(d.prompt_ids, d.response_ids, d.step_map) for d in batch],
        config.views,
        Canvas(config.views.train_block_at(step) or spec.require_block(), spec.is_full, fewest),
        seeds,
    )
    pairs = zip(views, batch, strict=True)
    return [with_images(one, demonstration.images, spec.is_full) for one, demonstration in pairs]


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
