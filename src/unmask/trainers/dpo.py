"""Training on preference pairs: the loop of `unmask dpo`.

A step draws pairs, makes the views of both answers, scores them under the frozen reference and under the
policy, and takes one optimizer step on the exact gradient of the loss (`views_loss.py`).
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from unmask.configs.dpo import DPOConfig
from unmask.configs.methods import partner
from unmask.data.pairs import Pair, pairs_of_source
from unmask.diffusion.views import Views
from unmask.distributed.world import ALONE, World
from unmask.models.spec import ModelSpec
from unmask.runs.clock import Clock
from unmask.trainers.learner import Learner
from unmask.trainers.losses import LOSSES, linear_objective
from unmask.trainers.pair_data import (
    build_pair_source,
    check_pairs_fit,
    digest_of_pairs,
    read_pair_sets,
)
from unmask.trainers.pair_views import pair_views
from unmask.trainers.reference import Scorer, build_reference
from unmask.trainers.run import open_training
from unmask.trainers.schedule import is_due, learning_rate, num_steps
from unmask.trainers.sft_data import vocabulary_of_llm
from unmask.trainers.start import check_steps, prepare
from unmask.trainers.sync import sync_weights
from unmask.trainers.validation import VALIDATION
from unmask.trainers.views_loss import Linearised, descend, linearise_pairs


def train_dpo(config: DPOConfig, resume: bool = False, world: World = ALONE) -> Path:
    """Train on preference pairs and return the directory of the trained model.

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
        read = partial(pairs_of_source, vocabulary=vocabulary_of_llm(llm))
        sets = read_pair_sets(config.pairs, read, spec)
        batch_size = config.pairs.batch_size
        steps = num_steps(config.steps, config.epochs, len(sets.train), batch_size)
        config = config.model_copy(update={"steps": steps})
        check_steps(config)
        check_pairs_fit(sets, config, spec)
        start = replace(start, config=config)
        source = build_pair_source(sets.train, config.run.seed)
        learner = Learner(llm.model, config.optimizer, world=world)
        reference = build_reference(config, llm.model, world)
        assert reference is not None, "DPOConfig refuses loss.kl_to = step"

    with open_training(start, source, learner) as run:
        sys.stderr.write(
            f"memory: {learner.memory} for weights and optimizer, activations come on top\n"
        )
        for step in run.steps():
            clock = Clock()
            with clock("update"):
                drawn = source.draw(batch_size)
                batch = [draw.item for draw in drawn]
                world.check_equal(f"pairs at step {step}", partial(digest_of_pairs, batch))
                keys = [(config.run.seed, *draw.key) for draw in drawn]
                views = pair_views(batch, keys, config, spec, step)
                rate = learning_rate(config.optimizer, step - 1, config.steps)
                found = score_pairs(learner, reference, views, config)
                update = descend(learner, views, found, linear_objective, rate)
            metrics = update.values | sync_weights(llm.engine, learner, world, clock)
            if sets.validation and is_due(step, config.steps, config.eval.every):
                with clock("eval"):
                    metrics |= validate(learner, reference, sets.validation, config, spec)
            run.end_step(step, metrics, clock)
        return run.finish()


def score_pairs(
    learner: Learner, reference: Scorer, views: Sequence[Views], config: DPOConfig
) -> Linearised:
    """Return the loss of pairs near the current weights, which `descend` minimises, and its statistics.

    Args:
        learner: of the policy.
        reference: the frozen model.
        views: returned by `pair_views`.
        config: the loss.
    """
    loss = partner(config.loss, LOSSES).loss
    scores = learner.score(views), reference.score(views)
    return linearise_pairs(views, scores, loss, config.loss)


def validate(
    learner: Learner,
    reference: Scorer,
    pairs: Sequence[Pair],
    config: DPOConfig,
    spec: ModelSpec,
) -> dict[str, float]:
    """Return loss and statistics of pairs that are never trained, under the same noise at every measurement."""
    sums: dict[str, float] = {}
    for start in range(0, len(pairs), config.pairs.batch_size):
        batch = pairs[start : start + config.pairs.batch_size]
        keys = [(config.run.seed, VALIDATION, start + place) for place in range(len(batch))]
        views = pair_views(batch, keys, config, spec, VALIDATION)
        found = score_pairs(learner, reference, views, config)
        for name, mean in found.metrics.items():
            sums[name] = sums.get(name, 0.0) + mean.value * len(batch)
    return {f"val_{name}": total / len(pairs) for name, total in sums.items()}
