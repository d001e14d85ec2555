"""RL on mathematics, end to end: GSM8K's file format, its demonstrations, its answers compared in workers."""

import json
import string
from pathlib import Path

from tests.toy import toy_checkpoint
from tests.trainers.toy_runs import metrics
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

SUMS = [(a, b) for a in range(4) for b in range(3)]


def write_problems(folder: Path) -> None:
    rows = [{"question": f"{a}+{b}?", "answer": f"<<{a}+{b}>>\n#### {a + b}"} for a, b in SUMS]
    for split in ("train", "test"):
        (folder / f"gsm8k-{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_a_model_that_can_write_boxes_learns_what_to_write_in_them(tmp_path: Path) -> None:
    write_problems(tmp_path)
    toy_checkpoint(tmp_path / "toy", alphabet=string.printable)
    task = ["task.kind=dataset", "task.name=gsm8k", f"task.path={tmp_path}"]
    task += ["task.template={question}", "eval.split=test", "eval.problems=12"]
    # A machine that stands still for seconds must not change a verdict.
    task += ["task.verifier.time_limit_s=100"]
    words = [f"run.dir={tmp_path / 'sft'}", f"model.path={tmp_path / 'toy'}", "steps=90"]
    words += ["data.batch_size=12", "optimizer.lr=1e-2", "eval.sampling.max_tokens=32"]
    sft = train_sft(load_config(SFTConfig, [], [*task, *words])[0])

    words = [f"run.dir={tmp_path / 'rl'}", f"model.path={sft}", "steps=12", "minibatches=2"]
    words += ["rollout.prompts=10", "rollout.responses=8", "optimizer.lr=2e-3"]
    words += ["sampling.max_tokens=32"]
    train_rl(load_config(RLConfig, [], [*task, *words])[0])
    lines = metrics(tmp_path / "rl")
    rewards = [line["reward"] for line in lines]
    assert 0 < rewards[0] < 1
    assert sum(rewards[-3:]) / 3 > rewards[0] + 0.1
    assert rewards == [line["reward_graded"] for line in lines]
    assert {line["reward_verifier_timeout"] for line in lines} == {0.0}
    assert {line["reward_verifier_crash"] for line in lines} == {0.0}
    assert max(line["logprob_gap_max"] for line in lines) < 1e-4
    assert lines[-1]["eval_accuracy"] > 0
