"""RL of a model that draws: `unmask rl` with `sampling.writes = "image"` and a reward that sees the pictures."""

import json
from pathlib import Path

import pytest

from tests.models.toy import GOLDEN
from unmask.checkpoints.random_init import init
from unmask.configs.rl import RLConfig
from unmask.images import Image
from unmask.models.vision.image_codec import decode_image
from unmask.runs.read import read_lines
from unmask.trainers.rl import train_rl
from unmask.types import Prompt, Trajectory

CODEC = GOLDEN / "magvitv2"


def brightness(prompt: Prompt, response: str | Image, trajectory: Trajectory) -> float:
    """Reward bright pictures."""
    assert isinstance(response, Image) and trajectory.sampling.writes == "image"
    values = decode_image(response).convert("L").tobytes()
    return sum(values) / len(values) / 255


def config_of(directory: Path, **changes: object) -> RLConfig:
    questions = directory / "texts.jsonl"
    lines = [{"question": text, "ground_truth_answer": "1"} for text in ("a bad egg", "a cafe")]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    init(directory / "base", "mmada", alphabet="abcdefgh ")
    return RLConfig.model_validate(
        {
            "model": {"path": str(directory / "base"), "image_codec": str(CODEC)},
            "task": {"kind": "json", "train": str(questions), "template": "{question}"},
            "steps": 2,
            "rollout": {"prompts": 2, "responses": 4},
            "sampling": {"preset": "mmada_image", "guidance": 0.0, "denoising_steps": 3},
            "reward": [{"kind": "function", "function": f"{__name__}:brightness"}],
            "run": {"dir": str(directory / "run")},
            "optimizer": {"lr": 1e-3},
            "eval": {"problems": 0},
            **changes,
        }
    )


def test_a_run_trains_on_pictures(tmp_path: Path) -> None:
    train_rl(config_of(tmp_path))
    rows = list(read_lines(tmp_path / "run" / "metrics.jsonl"))
    assert len(rows) == 2 and all(0 < row["reward"] < 1 for row in rows)
    assert all(row["logprob_gap_max"] < 1e-4 for row in rows)
    assert all(row["updates"] >= 1 for row in rows)


def test_a_run_without_an_image_tokenizer_is_refused(tmp_path: Path) -> None:
    model = {"path": str(tmp_path / "base")}
    with pytest.raises(
        ValueError, match=r"model\.image_codec: the drawings of a model are graded as pictures"
    ):
        train_rl(config_of(tmp_path, model=model))
