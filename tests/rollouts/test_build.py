"""Without workers the engine of the process writes, as it always did."""

from pathlib import Path

from tests.toy import toy_model
from tests.trainers.toy_runs import rl_config
from unmask.engine.llm import LLM
from unmask.rollouts.build import open_rollouts
from unmask.rollouts.collect import write_trajectories
from unmask.types import Prompt

PROMPTS = [Prompt("toy", uid, (), tuple(range(2, 5 + uid))) for uid in range(3)]


def test_without_workers_the_own_engine_writes(tmp_path: Path) -> None:
    config, llm = rl_config(tmp_path), LLM(toy_model())
    with open_rollouts(config, llm, lambda _: []) as rollouts:
        found = rollouts.write(4, PROMPTS, 11)
        assert rollouts.metrics() == {}
    sampling = config.sampling.to_params(n=config.rollout.responses)
    assert found == write_trajectories(llm, PROMPTS, sampling, 11)
