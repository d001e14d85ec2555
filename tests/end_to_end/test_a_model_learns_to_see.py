"""A tiny LLaDA-V counts circles on held-out pictures better after TraceRL than after SFT (benchmarks/vision.py)."""

from contextlib import closing
from pathlib import Path

from unmask.checkpoints.random_init import init
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.tasks.build import build_task
from unmask.trainers.quickstart import measure, shipped_config
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

# The shipped configs with fewer steps of RL, and no evaluation on the way.
WORDS = ["model.device=cpu", "eval.problems=0"]


def test_rl_raises_the_accuracy_on_held_out_pictures(tmp_path: Path) -> None:
    init(tmp_path / "base", "lladav", seed=0)
    paths = [f"run.dir={tmp_path / 'sft'}", f"model.path={tmp_path / 'base'}"]
    file = shipped_config("sft", "vision_counting")
    model = train_sft(load_config(SFTConfig, [file], [*paths, *WORDS])[0])
    paths = [f"run.dir={tmp_path / 'rl'}", f"model.path={model}"]
    file = shipped_config("rl", "vision_counting")
    config = load_config(RLConfig, [file], [*paths, *WORDS, "steps=8"])[0]
    trained = train_rl(config)
    with closing(build_task(config.task)) as task:
        before, after = (measure(config, task, one) for one in (model, trained))
    assert before.n == after.n > 700
    assert after.accuracy >= before.accuracy + 0.15
    assert after.ci95[0] > before.ci95[1]
