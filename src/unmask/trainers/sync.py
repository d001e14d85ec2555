"""The weight sync: the engine takes over the weights that the learner has updated.

One process: the learner's module is the engine's, and a sync is a version number. Several: each rank has a part
of the learner's weights and an engine with a copy of all; whole parameters are gathered and copied one after the
other, so that one parameter is the most memory that a sync takes.
"""

from collections.abc import Iterator

from torch import Tensor

from unmask.distributed.world import World
from unmask.engine.engine import Engine
from unmask.runs.clock import Clock
from unmask.trainers.learner import Learner


def sync_weights(engine: Engine, learner: Learner, world: World, clock: Clock) -> dict[str, float]:
    """Give an engine the learner's weights: a collective.

    Args:
        engine: of this rank.
        learner: of the same model.
        world: the ranks.
        clock: gets a stage `sync` where weights are copied.

    Returns:
        Bytes that this rank copied, and those of the largest parameter; nothing for one process.
    """
    if world.size == 1:
        engine.update_weights()
        return {}
    sizes = list[int]()

    def counted() -> Iterator[tuple[str, Tensor]]:
        for name, weight in learner.whole_weights():
            sizes.append(weight.nbytes)
            yield name, weight

    with clock("sync"):
        engine.update_weights(counted())
    return {"sync_bytes": sum(sizes), "sync_peak_bytes": max(sizes)}
