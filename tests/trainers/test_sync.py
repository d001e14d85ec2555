"""After a sync the engine samples from the learner's weights."""

import torch

from tests.distributed.ranks import on_ranks
from tests.toy import toy_model
from tests.trainers.toy_runs import supervised_views
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.runs.clock import Clock
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective
from unmask.trainers.sync import sync_weights

LIKELIHOOD = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))


def synced(world: World) -> tuple[dict[str, float], dict[str, torch.Tensor], int, set[str]]:
    """Take a step, and return the metrics of the sync, the engine's weights and version, and the stages."""
    llm, clock = LLM(toy_model(is_tied=True)), Clock()
    learner = Learner(llm.model, OptimizerConfig(lr=1e-2, eps=1e-3), world=world)
    learner.update(supervised_views(), LIKELIHOOD, 30.0)
    found = sync_weights(llm.engine, learner, world, clock)
    weights = {name: p.detach().clone() for name, p in llm.model.named_parameters()}
    return found, weights, llm.engine.policy_version, set(clock.stages)


def test_every_rank_has_the_weights_of_one_process() -> None:
    own, expected, version, stages = synced(ALONE)
    assert (own, stages) == ({}, set())
    for found, weights, other, stage in on_ranks(synced):
        assert (other, stage) == (version, {"sync"})
        assert found["sync_bytes"] == sum(w.nbytes for w in expected.values())
        assert found["sync_peak_bytes"] == max(w.nbytes for w in expected.values())
        for name, weight in expected.items():
            torch.testing.assert_close(weights[name], weight, rtol=1e-5, atol=1e-6)
