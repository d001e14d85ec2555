"""Every shipped config runs: one step of it, at toy sizes, on a toy checkpoint of the task's own alphabet."""

import json
import string
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.toy import toy_checkpoint
from unmask.checkpoints.random_init import init
from unmask.configs.dpo import DPOConfig
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.configs.reward_model import RewardModelConfig
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.configs.task import DatasetTaskConfig, JsonTaskConfig, PictureTaskConfig
from unmask.configs.training import TrainingConfig
from unmask.evaluation.evaluate import evaluate_model
from unmask.tasks.build import build_task
from unmask.tasks.public_datasets import dataset_by_name
from unmask.trainers.dpo import train_dpo
from unmask.trainers.reward_model import train_reward_model
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

CONFIGS = Path(__file__).parents[2] / "configs"
TRAINING = ["steps=1", "eval.problems=2", "optimizer.token_budget=2048"]
SMALLER: Mapping[str, list[str]] = {
    "sft": [*TRAINING, "data.batch_size=2", "eval.sampling.max_tokens=12"],
    "dpo": [*TRAINING, "epochs=none", "pairs.batch_size=2"],
    "reward-model": ["steps=1", "epochs=none", "pairs.batch_size=2"],
    "rl": [*TRAINING, "rollout.prompts=2", "rollout.responses=2", "sampling.max_tokens=12"],
    "eval": ["problems=2", "samples=2", "sampling.max_tokens=8"],
}
CLASSES = {
    "sft": SFTConfig,
    "dpo": DPOConfig,
    "reward-model": RewardModelConfig,
    "rl": RLConfig,
    "eval": EvalConfig,
}


def load(path: Path, place: Path, *words: str) -> TrainingConfig | EvalConfig:
    """Load a config with its sizes cut down; files of problems are ours."""
    kind = path.parent.name
    settings = [*SMALLER[kind], f"run.dir={place / 'run'}", f"model.path={place / 'toy'}", *words]
    config, _ = load_config(CLASSES[kind], [path], settings)
    if isinstance(config, DPOConfig | RewardModelConfig):
        pairs = [{"prompt": str(n), "chosen": "7", "rejected": "8"} for n in range(40)]
        (place / "pairs.json").write_text(json.dumps(pairs))
        words = (*settings, f"pairs.path={place / 'pairs.json'}")
        return load_config(CLASSES[kind], [path], words)[0]
    if isinstance(config.task, JsonTaskConfig):
        items = [{"question": f"{n} + 1", "ground_truth_answer": n + 1} for n in range(3)]
        (place / "problems.json").write_text(json.dumps(items))
        given = config.task.model_dump(include={"train", "validation", "test"}, exclude_none=True)
        files = [f"task.{split}={place / 'problems.json'}" for split in given]
        return load_config(CLASSES[kind], [path], settings + files)[0]
    if isinstance(config.task, DatasetTaskConfig):
        copy = [f"task.path={place}", *write_dataset(place, config.task.name)]
        return load_config(CLASSES[kind], [path], settings + copy)[0]
    return load_config(CLASSES[kind], [path], [*settings, "task.size=40"])[0]


def write_dataset(place: Path, name: str) -> list[str]:
    """Write a few records of a published data set; return the settings that suit so few."""
    match name:
        case "gsm8k":
            items = [{"question": f"{n} + 1", "answer": f"#### {n + 1}"} for n in range(20)]
        case _:
            raise NotImplementedError(f"a shipped config names {name}: write records of it here")
    for source in dataset_by_name(name).sources.values():
        (place / f"{source.file}.json").write_text(json.dumps(items))
    return ["task.validation_share=0.5"]


# Files of `configs/methods` go on top of one of these, and law 9 runs each of them; `configs/recipes` is planned alone
# (`tests/planning/test_recipes.py`).
WHOLE = sorted(path for path in CONFIGS.glob("*/*.toml") if path.parent.name != "methods")


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_config_runs_one_step(path: Path, tmp_path: Path) -> None:
    config = load(path, tmp_path)
    task = None if isinstance(config, RewardModelConfig) else config.task
    if isinstance(task, PictureTaskConfig):
        init(tmp_path / "toy", "lladav")
    else:
        alphabet = build_task(task).alphabet or string.printable
        toy_checkpoint(tmp_path / "toy", alphabet=alphabet, max_length=256)
    match config:
        case SFTConfig():
            assert (train_sft(config) / "model.safetensors").is_file()
        case DPOConfig():
            assert (train_dpo(config) / "model.safetensors").is_file()
        case RewardModelConfig():
            assert (train_reward_model(config) / "model.safetensors").is_file()
        case RLConfig():
            assert (train_rl(config) / "model.safetensors").is_file()
        case EvalConfig():
            summaries = evaluate_model(config).summaries
            assert {summary.n for summary in summaries.values()} == {2}
    if not isinstance(config, EvalConfig):
        (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        measured = (
            "val_loss" if isinstance(config, DPOConfig | RewardModelConfig) else "eval_accuracy"
        )
        assert measured in json.loads(line)
