"""Training of a reward model on preference pairs: the loop of `unmask reward-model`.

The model is a policy's backbone under a head of one number, which starts at 0; its score of a conversation is the
head's output at the last token, computed by the function that scores answers in RL (`checkpoints/reward_model.py`).
Both conversations of a pair are in one pass. A run is one process; `model/` is what `[[reward]]` of
`kind = "reward_model"` loads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from unmask.checkpoints.checkpoint import find_checkpoint
from unmask.checkpoints.reward_model import (
    load_reward_backbone,
    packed_scores,
    pad_ids_of,
)
from unmask.checkpoints.tokenizer import load_tokenizer
from unmask.configs.model import ModelConfig
from unmask.configs.reward_model import RewardModelConfig
from unmask.data.pairs import Pair
from unmask.distributed.environment import place
from unmask.models.placement import device_of, dtype_of
from unmask.models.trained_parts import choose_trained
from unmask.models.value_model import ValueModel
from unmask.objectives.loss import LossOutput
from unmask.objectives.preference import bradley_terry
from unmask.objectives.statistics import Statistic, StatisticSums
from unmask.runs.clock import Clock
from unmask.runs.directory import with_recorded_budget
from unmask.tasks.task import NO_TASK
from unmask.trainers.learner import Learner
from unmask.trainers.pack_budget import Budget, Lengths
from unmask.trainers.pair_data import (
    build_pair_source,
    conversation_pairs,
    read_pair_sets,
)
from unmask.trainers.run import open_run_of
from unmask.trainers.schedule import is_due, learning_rate, num_steps
from unmask.trainers.start import Start, check_steps, prepare_directory


@dataclass(slots=True)
class NoEngine:
    """Stands where a run keeps the engine of the model it trains; nothing samples from a reward model."""

    policy_version: int = 0
    attention: None = None


@dataclass(frozen=True, slots=True)
class RewardTraining:
    """A reward model under training."""

    model: ValueModel
    engine: NoEngine = field(default_factory=NoEngine)


def train_reward_model(config: RewardModelConfig, resume: bool = False) -> Path:
    """Train a reward model on preference pairs and return its directory.

    Args:
        config: the run.
        resume: go on from the last checkpoint of `run.dir`, if there is one.

    Raises:
        ValueError: for what the config asks and cannot have, naming the key.
    """
    if place().size > 1:
        raise ValueError("unmask reward-model runs in one process: start it without torchrun")
    own = prepare_directory(config, resume)
    config = with_recorded_budget(config)
    model = load_trained(own)
    read = partial(conversation_pairs, tokenizer=load_tokenizer(find_checkpoint(own.path)))
    sets = read_pair_sets(config.pairs, read, model.spec)
    batch_size = config.pairs.batch_size
    steps = num_steps(config.steps, config.epochs, len(sets.train), batch_size)
    config = config.model_copy(update={"steps": steps})
    check_steps(config)
    source = build_pair_source(sets.train, config.run.seed)
    learner = Learner(model, config.optimizer)
    score = partial(_scored_batches, model, learner.budget, pad_ids_of(own.path))

    start = Start(config, resume, RewardTraining(model), NO_TASK)
    with open_run_of(start, None, source, learner) as run:
        for step in run.steps():
            clock = Clock()
            with clock("update"):
                batch = [draw.item for draw in source.draw(batch_size)]
                shares = ((o.loss.sum() / len(batch), o) for o in score(batch))
                rate = learning_rate(config.optimizer, step - 1, config.steps)
                update = learner.minimise(shares, num_tokens(batch), rate)
            metrics = {"loss": update.loss, **update.values}
            if sets.validation and is_due(step, config.steps, config.measure_every):
                with clock("eval"):
                    metrics |= _measure(score(sets.validation))
            run.end_step(step, metrics, clock)
        return run.finish()


def load_trained(config: ModelConfig) -> ValueModel:
    """Load the model that a run starts from.

    Raises:
        ValueError: as `load_reward_backbone` and `choose_trained`, or for a device that this machine does not have.
    """
    device = device_of(config.device, "model.device")
    dtype = dtype_of(config.dtype, device, "model.dtype")
    read_as = (config.mask_id, config.block_size, config.family)
    model = load_reward_backbone(config.path, device, dtype, *read_as)
    choose_trained(model, config.trains)
    model.backbone.gradient_checkpointing = config.gradient_checkpointing
    if config.compile:
        model.backbone.compile_layers()
    return model


def num_tokens(pairs: Sequence[Pair]) -> int:
    """Return the tokens of all conversations."""
    return sum(len(one.prompt_ids) + len(one.response_ids) for p in pairs for one in p.answers)


def _scored_batches(
    model: ValueModel, budget: Budget, pad_ids: tuple[int, ...], pairs: Sequence[Pair]
) -> Iterator[LossOutput]:
    """Yield the losses of pairs, so many at a time that their conversations fit a budget."""
    part, size = list[Pair](), 0
    # Nothing is masked: a row is a conversation, and both of a pair are in one pass.
    longest = max(num_tokens([pair]) for pair in pairs)
    token_budget = budget(Lengths(longest, 0, longest))
    for pair in pairs:
        if part and size + num_tokens([pair]) > token_budget:
            yield _losses(model, pad_ids, part)
            part, size = [], 0
        part.append(pair)
        size += num_tokens([pair])
    yield _losses(model, pad_ids, part)


def _losses(model: ValueModel, pad_ids: tuple[int, ...], pairs: Sequence[Pair]) -> LossOutput:
    conversations = [one.prompt_ids + one.response_ids for pair in pairs for one in pair.answers]
    scores = packed_scores(model, conversations, pad_ids)
    return bradley_terry(scores[0::2], scores[1::2])  # (pairs,) each


@torch.no_grad()
def _measure(outputs: Iterator[LossOutput]) -> dict[str, float]:
    """Return the mean loss and statistics of pairs that are never trained."""
    sums = StatisticSums()
    for output in outputs:
        sums.add({"loss": Statistic(output.loss), **output.statistics}, len(output.loss))
    return {f"val_{name}": metric.value for name, metric in sums.metrics().items()}
