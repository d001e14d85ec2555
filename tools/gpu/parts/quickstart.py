"""The quickstart on the device: SFT on few demonstrations, then TraceRL; it must raise accuracy beyond both intervals.

In float32, as the committed figures of a CPU (`benchmarks/results/quickstart-chain_sum.json`). Expected on an H200: SFT
300 steps at 0.05 s, TraceRL 60 steps at 0.4 s, and 30 s for compilation and verifiers.
"""

from contextlib import closing
from typing import Any

from setting import quickstart_config, train_quickstart_model

from tools.gpu.part import Outcome, Part, Setting
from unmask.configs.rl import RLConfig
from unmask.evaluation.evaluate import Summary
from unmask.runs.read import read_lines
from unmask.tasks.build import build_task
from unmask.trainers.quickstart import measure
from unmask.trainers.rl import train_rl

TASK = "chain_sum"
TINY_SFT = ["steps=3", "data.batch_size=8", "task.size=200"]
TINY_RL = ["steps=2", "rollout.prompts=4", "task.size=200", "filter.drop_uniform=false"]


def run(setting: Setting) -> Outcome:
    """Train the quickstart's model with its own configs, and measure it before and after RL."""
    place = [f"model.device={setting.device}", "model.dtype=float32"]
    place += ["save_every=0", "eval.every=0"]
    sft_words, rl_words = (TINY_SFT, TINY_RL) if setting.is_tiny else ([], [])
    path = train_quickstart_model(TASK, setting.folder, [*place, *sft_words])
    rl = quickstart_config(RLConfig, TASK, setting.folder / "rl", path, [*place, *rl_words])
    trained = train_rl(rl)
    with closing(build_task(rl.task)) as task:
        before, after = (measure(rl, task, model) for model in (path, trained))
    lines = list(read_lines(rl.run.dir / "metrics.jsonl"))
    figures: dict[str, Any] = {
        "sft": before.to_dict(),
        "rl": after.to_dict(),
        "logprob_gap_max": max((line.get("logprob_gap_max", 0.0) for line in lines), default=None),
        "rl_step_wall_s": {
            stage: sum(line.get(f"{stage}_wall_s", 0.0) for line in lines) / len(lines)
            for stage in ("rollout", "reward", "update")
        },
    }
    is_raised = after.ci95[0] > before.ci95[1]
    # A few steps of a toy run raise nothing: the rehearsal holds that both stages run and are measured.
    passed = None if setting.is_tiny else is_raised
    return Outcome(f"accuracy {_share(before)} -> {_share(after)}", passed, figures)


def _share(summary: Summary) -> str:
    low, high = summary.ci95
    return f"{summary.accuracy:.1%} ({low:.1%} .. {high:.1%})"


PART = Part(
    "quickstart: SFT, then TraceRL, on sums of three numbers",
    "learning",
    run,
    limit_s=120,
    is_default=False,
)
