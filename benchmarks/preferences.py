"""What preference pairs are worth to a tiny model: DPO/VRPO, dTRPO, and a reward model with TraceRL.

    python benchmarks/preferences.py                  # a few minutes on one core; continues where it was stopped
    python benchmarks/preferences.py --report-only    # the table of finished units

For each seed one tiny model is trained by the quickstart's SFT on sums. It answers training problems several times,
the task's grader labels the answers, and of every problem with a right and a wrong answer the first of each are a
pair. All methods start from that model and train on those pairs alone:

    vrpo             DPO on estimates from four masks of each answer, their noise shared with the reference
    vrpo1            the same with one mask
    dtrpo            one denoising step of every block, in a random order
    dtrpo_recorded   the same along the order in which the answers were written
    reward_model     a reward model of the pairs, then TraceRL on its scores alone
    grader           for comparison, TraceRL on the grader itself: it reads right answers, which no pair tells

The learning rate of a method on pairs is the one of three with the highest accuracy on validation problems, on a
seed that is not among those reported; TraceRL has the quickstart's, and the reward model 1e-3. Reported is the
accuracy on test problems, one answer at temperature 1 each, and the difference from SFT on the same seed.

Writes `benchmarks/results/preferences.json`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from setting import (
    RESULTS,
    describe_machine,
    quickstart_config,
    train_quickstart_model,
    write_result,
)

from unmask.configs.dpo import DPOConfig
from unmask.configs.load import dump, load_config
from unmask.configs.reward_model import RewardModelConfig
from unmask.configs.rl import RLConfig
from unmask.engine.build import build_llm
from unmask.rollouts.collect import seeded_requests
from unmask.runs.read import read_lines
from unmask.tasks.build import build_task
from unmask.trainers.dpo import train_dpo
from unmask.trainers.evaluator import Evaluator
from unmask.trainers.reward_model import train_reward_model
from unmask.trainers.rl import train_rl
from unmask.types import Reward

TASK, TUNED_ON = "chain_sum", 9
VIEWS: dict[str, tuple[str, ...]] = {
    "vrpo": ("views.kind=counted", "views.count=4", "views.spread=cyclic"),
    "vrpo1": ("views.kind=counted",),
    "dtrpo": ("views.kind=block_steps",),
    "dtrpo_recorded": ("views.kind=block_steps", "views.order=recorded"),
}
OF_RL = ("reward_model", "grader")
METHODS = (*VIEWS, *OF_RL)
RATES = {**dict.fromkeys(VIEWS, (1e-4, 3e-4, 1e-3)), **dict.fromkeys(OF_RL, (4e-4,))}
# Of Student's distribution, by degrees of freedom.
QUANTILES = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}


@dataclass(frozen=True, slots=True)
class Size:
    """The lengths of all runs.

    Attributes:
        problems: training problems that are answered.
        samples: answers to each.
        steps: optimizer steps on pairs.
        rl_steps: steps of RL.
        evaluated: most problems of an evaluation.
        sft: further overrides of the SFT config.
        rl: and of the RL config.
    """

    problems: int = 300
    samples: int = 8
    steps: int = 30
    rl_steps: int = 15
    evaluated: int = 500
    sft: tuple[str, ...] = ("steps=150",)
    rl: tuple[str, ...] = ("rollout.prompts=32",)


SMOKE = Size(100, 8, 2, 1, 8, ("steps=60",), ("rollout.prompts=4",))


@dataclass(frozen=True, slots=True)
class Unit:
    """One run: the smallest thing that is done, or not."""

    seed: int
    method: str
    rate: float
    split: str

    def file(self, work: Path) -> Path:
        """Return where its result is."""
        return work / f"{self.seed}-{self.method}-{self.rate:g}-{self.split}.json"


def tuning(method: str) -> list[Unit]:
    """Return the runs that choose a learning rate."""
    return [Unit(TUNED_ON, method, rate, "validation") for rate in RATES[method]]


def main() -> None:
    """Run what is not there yet, and report on what is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--work", type=Path, default=Path("runs/preferences"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    parser.add_argument(
        "--smoke", action="store_true", help="to see that it runs; says nothing else"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.smoke:
        with tempfile.TemporaryDirectory() as place:
            run_all([0], arguments.methods, SMOKE, Path(place))
            report(Path(place), [0], SMOKE, arguments.out)
        return
    if not arguments.report_only:
        run_all(arguments.seeds, arguments.methods, Size(), arguments.work)
    report(arguments.work, arguments.seeds, Size(), arguments.out or RESULTS / "preferences.json")


def run_all(seeds: Sequence[int], methods: Sequence[str], size: Size, work: Path) -> None:
    """Choose the learning rates, then run every method on every seed."""
    for method in methods:
        for unit in tuning(method) if len(RATES[method]) > 1 else []:
            run_unit(unit, size, work)
    # Seed by seed: a run that is cut short still compares like with like.
    for seed in seeds:
        run_unit(Unit(seed, "sft", 0.0, "test"), size, work)
        for method in methods:
            run_unit(Unit(seed, method, chosen_rate(method, work), "test"), size, work)


def chosen_rate(method: str, work: Path) -> float:
    """Return the learning rate with the highest accuracy on the tuning seed; of equal ones the lowest."""
    if len(RATES[method]) == 1:
        return RATES[method][0]
    found = {unit.rate: read(unit.file(work))["accuracy"] for unit in tuning(method)}
    return max(found, key=lambda rate: (found[rate], -rate))


def read(path: Path) -> dict[str, Any]:
    """Return a result."""
    return json.loads(path.read_text())


def run_unit(unit: Unit, size: Size, work: Path) -> None:
    """Train one method on one seed, unless its result is there."""
    if unit.file(work).exists():
        return
    place = work / str(unit.seed)
    prepare(unit.seed, size, place)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as run:
        accuracy, extra = train(unit, size, place, Path(run))
    seconds = round(time.process_time() - start, 1)
    write_result(unit.file(work), {"accuracy": accuracy, "cpu_s": seconds, **extra})
    print(f"{unit}: {accuracy:.3f}, {seconds} CPU s, {extra}", flush=True)


def model_of(place: Path) -> Path:
    """Return the SFT model of a seed."""
    return place / "sft" / "model"


def prepare(seed: int, size: Size, place: Path) -> None:
    """Train the SFT model of a seed and write its pairs, unless they are there."""
    if not (place / "pairs.json").exists():
        words = (f"run.seed={seed}", "eval.problems=0", "eval.every=0", *size.sft)
        train_quickstart_model(TASK, place, words)
        write_pairs(seed, size, place)


def write_pairs(seed: int, size: Size, place: Path) -> None:
    """Let the model answer training problems, and pair a right answer with a wrong one of each."""
    config = quickstart_config(RLConfig, TASK, place / "none", model_of(place))
    llm = build_llm(config.model, config.engine)
    with closing(build_task(config.task)) as task:
        prompts = llm.tokenize(task.prompts("train")[: size.problems])
        sampling = config.sampling.to_params(n=size.samples)
        asked, params = seeded_requests(prompts, sampling, seed)
        written = llm.complete(asked, params)
        texts = [llm.decode(t.canvas_ids[: t.num_response]) for t in written]
        scores = [number_of(s.reward) for s in task.grade(list(zip(asked, texts, strict=True)))]
    texts_of, ids = list[dict[str, Any]](), list[dict[str, Any]]()
    for start in range(0, len(asked), size.samples):
        group = range(start, start + size.samples)
        right = next((n for n in group if scores[n] > 0.5), None)
        wrong = next((n for n in group if scores[n] <= 0.5), None)
        if right is None or wrong is None:
            continue
        asked_text = asked[start].messages[-1].content
        pair = {"prompt": asked_text, "chosen": texts[right], "rejected": texts[wrong]}
        if texts[wrong].strip():  # an answer that ends at once is tokens, and no text
            texts_of.append(pair)
        ids.append({"prompt_ids": asked[start].token_ids})
        for name, n in (("chosen", right), ("rejected", wrong)):
            count = written[n].num_response
            ids[-1][f"{name}_ids"] = written[n].canvas_ids[:count]
            ids[-1][f"{name}_step_map"] = written[n].step_map[:count]
    (place / "ids.json").write_text(json.dumps(ids))
    (place / "pairs.json").write_text(json.dumps(texts_of))
    right_share = sum(score > 0.5 for score in scores) / len(scores)
    print(f"seed {seed}: {len(ids)} pairs of {size.problems} problems, {right_share:.3f} right")


def number_of(reward: Reward) -> float:
    """Return a reward that is one number."""
    assert not isinstance(reward, Sequence)
    return reward


def train(unit: Unit, size: Size, place: Path, run: Path) -> tuple[float, dict[str, Any]]:
    """Train a method and return the accuracy of its model, and what else is known of the run."""
    measured = [f"eval.split={unit.split}", f"eval.problems={size.evaluated}", "eval.every=0"]
    if unit.method in OF_RL:
        return train_by_rl(unit, measured, size, place, run)
    model = model_of(place)
    config = quickstart_config(RLConfig, TASK, run, model, measured)
    if unit.method == "sft":
        with closing(build_task(config.task)) as task:
            found = Evaluator(build_llm(config.model, config.engine), task, config).measure()
        return found["eval_accuracy"], {}
    words = [f"run.dir={run}", f"model.path={model}", f"pairs.path={place / 'ids.json'}"]
    words += [f"steps={size.steps}", f"optimizer.lr={unit.rate}", "optimizer.warmup_steps=5"]
    words += ["pairs.batch_size=32", "eval.sampling.max_tokens=10", "engine.max_sequences=512"]
    values = dump(load_config(DPOConfig, [], [*words, *VIEWS[unit.method], *measured])[0])
    train_dpo(DPOConfig.model_validate(values | {"task": config.task}))
    *_, last = read_lines(run / "metrics.jsonl")
    kept = ("loss", "pair_accuracy", "margin", "chosen_gain", "rejected_gain", "packed_tokens")
    return last["eval_accuracy"], {name: last[name] for name in kept}


def train_by_rl(
    unit: Unit, measured: list[str], size: Size, place: Path, run: Path
) -> tuple[float, dict[str, Any]]:
    """Train by RL, on a reward model of the pairs or on the grader."""
    words, extra = list[str](), dict[str, Any]()
    if unit.method == "reward_model":
        judge = [f"run.dir={run / 'judge'}", f"model.path={model_of(place)}", "optimizer.lr=1e-3"]
        judge += [f"pairs.path={place / 'pairs.json'}", "pairs.validation=0.1"]
        judge += [f"steps={size.steps}", "pairs.batch_size=32", "optimizer.warmup_steps=5"]
        path = train_reward_model(load_config(RewardModelConfig, [], judge)[0])
        *_, last = read_lines(path.parent / "metrics.jsonl")
        extra = {name: last[name] for name in ("pair_accuracy", "val_pair_accuracy", "val_loss")}
        words = [f'reward=[{{kind="reward_model", path="{path}"}}]']
    words += [f"steps={size.rl_steps}", f"optimizer.lr={unit.rate}", *size.rl, *measured]
    train_rl(quickstart_config(RLConfig, TASK, run / "rl", model_of(place), words))
    *_, last = read_lines(run / "rl" / "metrics.jsonl")
    return last["eval_accuracy"], extra | {"reward_outcome": last["reward_outcome"]}


def report(work: Path, seeds: Sequence[int], size: Size, out: Path | None) -> None:
    """Print a table of the finished units and write it."""
    rows: dict[str, dict[str, Any]] = {"sft": {"runs": finished(work, seeds, "sft", 0.0)}}
    for method in METHODS:
        tuned = [unit for unit in tuning(method) if unit.file(work).exists()]
        if len(tuned) == len(RATES[method]) or len(RATES[method]) == 1:
            rate = chosen_rate(method, work)
            rows[method] = {
                "rate": rate,
                "tuning": {unit.rate: read(unit.file(work))["accuracy"] for unit in tuned},
                "runs": finished(work, seeds, method, rate),
            }
    for method, row in rows.items():
        runs = {seed: own for seed, own in row["runs"].items() if seed in rows["sft"]["runs"]}
        if len(runs) < 2:
            continue
        gains = [own["accuracy"] - rows["sft"]["runs"][s]["accuracy"] for s, own in runs.items()]
        half = QUANTILES[len(gains) - 1] * stdev(gains) / len(gains) ** 0.5
        row["accuracy"] = mean(own["accuracy"] for own in runs.values())
        row["gain"], row["gain_interval"] = mean(gains), [mean(gains) - half, mean(gains) + half]
        row["cpu_s"] = mean(own["cpu_s"] for own in runs.values())
        rate = f"{row['rate']:g}" if "rate" in row else ""
        print(
            f"{method:16}{rate:8}{row['accuracy']:7.3f}  {row['gain']:+.3f} +- {half:.3f}  "
            f"{row['cpu_s']:.0f} CPU s"
        )
    result = {"machine": describe_machine(), "task": TASK, "size": repr(size), "methods": rows}
    write_result(out, result)


def finished(work: Path, seeds: Sequence[int], method: str, rate: float) -> dict[int, Any]:
    """Return the results that are there, by seed."""
    files = {seed: Unit(seed, method, rate, "test").file(work) for seed in seeds}
    return {seed: read(file) for seed, file in files.items() if file.exists()}


if __name__ == "__main__":
    main()
