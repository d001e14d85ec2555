"""RL on programs: responses are run in the sandbox, and what passes is what the model learns to write."""

import json
from pathlib import Path

from tests.toy import toy_checkpoint
from tests.trainers.toy_runs import metrics
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.sandbox.isolation import choose_backend, describe_isolation
from unmask.trainers.rl import train_rl

ALPHABET = "0123456789; acdehiloprstuxY:\n"


def test_a_model_is_rewarded_for_what_runs(tmp_path: Path) -> None:
    # The test only asks that the program loads: a random model writes some that do, and some that do not.
    records = [
        {"text": f"{n}", "code": "x = 7", "test_list": ["assert x", "assert x"]} for n in range(6)
    ]
    (tmp_path / "mbpp-train.jsonl").write_text("\n".join(map(json.dumps, records)))
    toy_checkpoint(tmp_path / "checkpoint", ALPHABET)
    words = [
        f"run.dir={tmp_path / 'run'}",
        f"model.path={tmp_path / 'checkpoint'}",
        "task.kind=dataset",
        "task.name=mbpp",
        f"task.path={tmp_path}",
        "task.template={question}",
        "task.sandbox.credit=share",
        "task.sandbox.cpu_s=2",
        "steps=2",
        "rollout.prompts=3",
        "rollout.responses=8",
        "sampling.max_tokens=2",
        "optimizer.lr=1e-2",
        "eval.problems=0",
    ]
    train_rl(load_config(RLConfig, [], words)[0])
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["isolation"] == describe_isolation(choose_backend("best"))
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2]
    assert all(0 < line["reward"] < 1 for line in lines)
    assert all(line["gradient_norm"] > 0 for line in lines)
    assert all(line["reward_graded"] == line["reward"] for line in lines)
