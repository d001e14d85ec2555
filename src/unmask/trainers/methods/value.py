"""`advantage.kind = "value"`: a value model with weights and optimizer steps of its own.

It reads the rows the policy is scored at: the state of the views that hold a token hidden just before
it was revealed. Once per RL step, before any update, it estimates the values of the step's
trajectories (`value_targets.py`), then it is trained, then the policy. The two share no trained weight,
so the order of the two updates makes no difference.

    neither `lora` nor `path`     the policy's checkpoint again, all of it trained
    `path`                        that checkpoint, all of it trained
    `lora`, with [lora]           adapters on the policy's frozen weights, which are held once
    `lora` and `path`             adapters on that checkpoint's weights, frozen

A resumed run takes the trained part from its last checkpoint (`checkpoints/value_model_files.py`) and
the rest as a new run does.
"""

from collections.abc import Sequence
from pathlib import Path

from unmask.checkpoints.checkpoint import load_value_model
from unmask.checkpoints.lora_files import load_adapter
from unmask.checkpoints.value_model_files import load_head
from unmask.configs.methods.advantage.value import ValueAdvantage
from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.distributed.world import ALONE, World
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.trained_parts import choose_trained
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel, critic_on_frozen_policy
from unmask.seeds import derive_seed
from unmask.trainers.checkpointer import ValueTraining
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_policy_objective, build_value_objective
from unmask.trainers.policy_update import PolicyUpdate, Updates
from unmask.trainers.reference import build_reference
from unmask.trainers.rl_update import RLUpdate, rate_of
from unmask.trainers.rollout_views import outcome_columns
from unmask.trainers.schedule import learning_rate
from unmask.trainers.value_targets import ValueTargets, value_targets
from unmask.types import Group

# Keeps the seed of the value model's fresh adapters apart from that of the policy's, and of the steps.
ADAPTER_DRAW = (0, 1)
# Metrics that every learner reports, under the names they have of a value model.
RENAMED = {name: f"value_{name}" for name in ("loss", "gradient_norm", "learning_rate")}
# Metrics that count the policy's updates only.
OF_POLICY = ("packed_tokens", "updates")


def build(
    config: RLConfig, policy: Model, saved: Path | None = None, world: World = ALONE
) -> RLUpdate:
    """Build the update of a value model, followed by that of the policy.

    Raises:
        ValueError: as `build_reference` and `build_value_model`.
    """
    learner = Learner(policy, config.optimizer, world=world)
    reference = build_reference(config, policy, world)
    update = PolicyUpdate(learner, config, build_policy_objective(config), reference)
    critic = Critic(build_value_model(config, policy, saved), config, world)

    def step_update(
        groups: Sequence[Group], views: Sequence[Views], step: int, seed: int
    ) -> dict[str, float]:
        targets = critic.estimate(groups, views)
        metrics = critic.update(targets, step, seed)
        columns = outcome_columns(groups, targets.views, config)
        return update(targets.views, seed, rate_of(config, step), columns) | metrics

    return RLUpdate(learner, step_update, ValueTraining(critic.model, critic.learner))


class Critic:
    """A value model under training, in optimizer steps of its own.

    Attributes:
        model: backbone and value head.
        learner: trains them.
    """

    def __init__(self, model: ValueModel, config: RLConfig, world: World = ALONE) -> None:
        """Build the optimizer: that of the policy, with the value model's learning rate."""
        assert isinstance(config.advantage, ValueAdvantage)
        self._config, self._train_every = config, config.advantage.train_every
        self._optimizer = config.optimizer.model_copy(update={"lr": config.advantage.lr})
        self.learner = Learner(model, self._optimizer, world=world)
        assert isinstance(self.learner.model, ValueModel)
        self.model = self.learner.model
        objective = build_value_objective(config.advantage.clip)
        self._updates = Updates(self.learner, objective, config, config.advantage)

    def estimate(self, groups: Sequence[Group], views: Sequence[Views]) -> ValueTargets:
        """Return returns and an advantage for every token, under the current weights."""
        values = self.learner.score(views)
        return value_targets(groups, views, values, self._config)

    def update(self, targets: ValueTargets, step: int, seed: int) -> dict[str, float]:
        """Update the value model if its update is due, and return the metrics of the step.

        Args:
            targets: returned by `estimate`.
            step: RL step, counted from 1.
            seed: of the order of the minibatches.

        Raises:
            ValueError: the gradient is not finite; the weights are then untouched.
        """
        pairs = zip(targets.views, targets.columns(), strict=True)
        trainable = [pair for pair in pairs if len(pair[0].target)]
        if not trainable or step % self._train_every:
            return targets.metrics
        rate = learning_rate(self._optimizer, step - 1, self._config.steps)
        try:
            found = self._updates(trainable, seed, rate)
        except ValueError as error:
            error.add_note("this is the value model's gradient: its learning rate is advantage.lr")
            raise
        named = {RENAMED.get(name, name): value for name, value in found.items()}
        return targets.metrics | {name: named[name] for name in named if name not in OF_POLICY}


def build_value_model(config: RLConfig, policy: Model, saved: Path | None = None) -> ValueModel:
    """Load a value model with a backbone or adapters of its own, in the policy's number format.

    Args:
        config: of the run.
        policy: its rows are read.
        saved: the `critic/` of the run's last checkpoint, if there is one.

    Raises:
        ValueError: the checkpoint has no value head to take, or is not a model of the policy's kind.
    """
    assert isinstance(config.advantage, ValueAdvantage)
    build_from = _load if config.advantage.lora is None else _with_adapters
    model = build_from(config, config.advantage, policy, saved)
    model.backbone.gradient_checkpointing = config.model.gradient_checkpointing
    if config.model.compile:
        model.backbone.compile_layers()
    return model


def _with_adapters(
    config: RLConfig, advantage: ValueAdvantage, policy: Model, saved: Path | None
) -> ValueModel:
    """Return a value model whose adapters and head are trained, and no other weight."""
    assert advantage.lora is not None
    # A head taken from a checkpoint was trained on that checkpoint's backbone.
    is_shared = config.lora is not None and advantage.path is None and advantage.head == "zero"
    model = critic_on_frozen_policy(policy) if is_shared else _load(config, advantage, policy)
    if saved is None:
        seed = derive_seed(config.run.seed, *ADAPTER_DRAW)
        add_lora(model, LoRAParams(**advantage.lora.model_dump()), seed)
    else:
        load_adapter(model, saved)
        load_head(model.value_head, saved)
    model.value_head.requires_grad_(True)
    return model


def _load(
    config: RLConfig, advantage: ValueAdvantage, policy: Model, saved: Path | None = None
) -> ValueModel:
    """Load a whole value model: the saved one, else the one that the config names."""
    path = saved or advantage.path or config.model.path
    head = advantage.head if saved is None else "stored"
    model = load_value_model(path, policy.device, policy.dtype, head, policy.spec)
    choose_trained(model, config.model.trains)
    for name in ("vocab_size", "attention", "is_shifted", "mask_id"):
        own, other = getattr(model.spec, name), getattr(policy.spec, name)
        if own != other:
            raise ValueError(
                f"advantage.path = {path}: its {name} is {own}, the policy's is {other}: the value "
                "model must read what the policy reads"
            )
    return model
