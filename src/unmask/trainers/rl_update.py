"""The update of one RL step: the source of advantages, and the trained parameters.

    advantage.kind   advantages                              trained in a step
    group_std, ...   of a response, over its group           the policy
    value            of a token, by a value model            the value model, then the policy
    shared_value     of a token, by a head on the policy's   both, in the same optimizer steps
                     backbone

Each is a file of `trainers/methods/`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.configs.methods import partner
from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.distributed.world import ALONE, World
from unmask.models.transformer import Model
from unmask.trainers.checkpointer import ValueTraining
from unmask.trainers.learner import Learner
from unmask.trainers.schedule import learning_rate
from unmask.types import Group

# A step's groups, the views of their trajectories, the step counted from 1 and its seed; to its metrics.
StepUpdate = Callable[[Sequence[Group], Sequence[Views], int, int], dict[str, float]]


@dataclass(frozen=True, slots=True)
class RLUpdate:
    """The models that a run trains, and the update of one step.

    Attributes:
        learner: trains the policy, and a value head on its backbone.
        step: updates the weights from a step's groups and returns the metrics of the step.
        value: the value model, if advantages need one.
    """

    learner: Learner
    step: StepUpdate
    value: ValueTraining | None = None


def build_update(
    config: RLConfig, policy: Model, saved: Path | None = None, world: World = ALONE
) -> RLUpdate:
    """Build the update that `advantage.kind` names.

    Args:
        config: of the run.
        policy: the model that is trained; several ranks train a sharded twin of it.
        saved: the `critic/` of the run's last checkpoint, if there is one.
        world: the ranks.

    Raises:
        ValueError: as `build_reference` and the `build` of the kind.
    """
    return partner(config.advantage, "unmask.trainers.methods").build(config, policy, saved, world)


def rate_of(config: RLConfig, step: int) -> float:
    """Return the policy's learning rate at an RL step, counted from 1."""
    return learning_rate(config.optimizer, step - 1, config.steps)
