"""What the likelihood of a move is worth and what it costs, on real models.

    python benchmarks/move_update.py [--only PART ...] [--smoke] [--out FILE]

    policy   the quickstart's model of `chain_sum` after SFT: gradients of `revealed`, of `move`, and of moves scored
             up to the stop only, on the same rollouts. The exact gradient is the mean of `move` over half of the
             rollouts, those of other prompts; cosines to it are of means over B responses of the other half, and
             `cosine_whole` is of all of that half. Variance is per response.
    cost     CPU seconds and rows of the head of one update, `revealed` and `move` in turn, in blocks of 4, with a
             head of a fifth of the body as in models of 1.7B parameters.

Advantages are `leave_one_out` without division, and losses are summed: nothing but the likelihood differs.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from setting import (
    RESULTS,
    describe_machine,
    quickstart_config,
    train_quickstart_model,
    write_result,
)
from torch import Tensor
from update_workloads import draw_trajectory

from unmask.configs.rl import RLConfig
from unmask.data.shuffled import Shuffled
from unmask.diffusion.layout import pack_views
from unmask.engine.build import build_llm
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model, initialise
from unmask.rollouts.collect import grade_trajectories, write_trajectories
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.pack_budget import build_budget, lengths_of
from unmask.trainers.rollout_views import rollout_views
from unmask.types import Group

SURROGATES: dict[str, list[str]] = {
    "revealed": [],
    "move": ["loss.likelihood=move"],
    "move, ignore": ["loss.likelihood=move", "views.post_stop=ignore"],
}
# The samplers of the rollouts; the first is the quickstart's.
SAMPLERS: dict[str, list[str]] = {
    "dynamic": [],
    "static": ["sampling.strategy=static"],
    "entropy": ["sampling.strategy=entropy"],
}
SINGLE = ["minibatches=1", "advantage.kind=leave_one_out", "loss.kl=0"]
# A head of 2.1M parameters next to a body of 9.8M.
SPEC = ModelSpec(
    family="sdar",
    num_layers=8,
    width=256,
    num_heads=8,
    num_kv_heads=4,
    head_width=32,
    ffn_width=1280,
    vocab_size=8192,
    max_length=2048,
    rope_theta=1e6,
    norm_eps=1e-6,
    has_qkv_bias=False,
    has_qk_norm=True,
    is_tied=False,
    mask_id=0,
    block_size=4,
    num_drawable=8192,
    eos_ids=(1,),
)


def gradient(model: Model, groups: Sequence[Group], config: RLConfig) -> Tensor:
    """Return the gradient `(parameters,)` of the sum of all losses, by the learner's own functions."""
    views = rollout_views(groups, config, model.spec.is_full, is_shifted=model.spec.is_shifted)
    views = [v for v in views if v.advantages.any()]
    objective = build_policy_objective(config)
    model.zero_grad()
    budget = build_budget(model, config.optimizer.token_budget)(lengths_of(views))
    for pack in pack_views(views, conventions_of(model), budget):
        output = objective(score_pack(model, pack), pack)
        (output.loss * pack.weights).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def policy(directory: Path, num_batches: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Return cosines and variances of every surrogate under every sampler."""
    path = train_quickstart_model("chain_sum", directory, overrides)
    found: dict[str, Any] = {}
    for sampler, words in SAMPLERS.items():
        config = quickstart_config(RLConfig, "chain_sum", directory / "rl", path, [*SINGLE, *words])
        llm, task = build_llm(config.model, config.engine), build_task(config.task)
        prompts = Shuffled(llm.tokenize(task.prompts("train")), 0)
        sampling = config.sampling.to_params(n=config.rollout.responses)
        gradients: dict[str, list[Tensor]] = {name: [] for name in SURROGATES}
        succeeded = 0.0
        for number in range(num_batches):
            asked = [draw.item for draw in prompts.draw(config.rollout.prompts)]
            written = write_trajectories(llm, asked, sampling, derive_seed(7, number))
            groups = grade_trajectories(llm, task, written, config.rollout.responses)
            succeeded += sum(sum(map(float, g.rewards)) for g in groups) / len(written)  # type: ignore[arg-type]
            for name, more in SURROGATES.items():
                own = quickstart_config(
                    RLConfig, "chain_sum", directory / "rl", path, [*SINGLE, *words, *more]
                )
                gradients[name].append(gradient(llm.model, groups, own))
        task.close()
        size = config.rollout.prompts * config.rollout.responses
        tables = {name: torch.stack(rows) / size for name, rows in gradients.items()}
        found[sampler] = {
            "accuracy": succeeded / num_batches,
            "responses": num_batches * size,
            **{name: _measured(table, tables["move"], size) for name, table in tables.items()},
        }
        print(sampler, found[sampler], flush=True)
    return found


def _measured(table: Tensor, exact: Tensor, size: int) -> dict[str, Any]:
    """Return variance and cosines of gradients `(batches, parameters)` of `size` responses each."""
    half = len(table) // 2
    own, reference = table[:half], exact[half:].mean(0)
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= half // 2]
    cosines = {
        str(count * size): float(
            torch.nn.functional.cosine_similarity(
                own[: half // count * count].unflatten(0, (-1, count)).mean(1), reference[None]
            ).mean()
        )
        for count in counts
    }
    whole = torch.nn.functional.cosine_similarity(own.mean(0), reference, dim=0)
    variance = float(table.var(0).sum()) * size
    norm = float(table.mean(0).norm())
    return {"variance": variance, "norm": norm, "cosine": cosines, "cosine_whole": float(whole)}


def cost(rounds: int, lengths: tuple[int, int] = (150, 300)) -> dict[str, Any]:
    """Return the median CPU seconds of an update under either likelihood, in turn, and the rows of the head."""
    model = Model(SPEC)
    initialise(model, 0)
    drawn = draw_trajectory(random.Random(0), 0, lengths, SPEC)
    drawn = replace(drawn, sampling=replace(drawn.sampling, strategy="static"))
    groups = [Group(drawn.prompt, [drawn, drawn], [1.0, 0.0])]
    configs = {
        name: RLConfig.model_validate(
            {
                "model": {"path": "-"},
                "task": {"kind": "json"},
                "loss": {"likelihood": name},
                "advantage": {"kind": "group"},
            }
        )
        for name in ("revealed", "move")
    }
    spent: dict[str, list[float]] = {name: [] for name in configs}
    rows: dict[str, int] = {}
    for _ in range(rounds):
        for name, config in configs.items():
            start = time.process_time()
            gradient(model, groups, config)
            spent[name].append(time.process_time() - start)
            rows[name] = sum(int(v.target.sum()) for v in rollout_views(groups, config))
    return {
        "cpu_s": {name: median(values) for name, values in spent.items()},
        "rounds": spent,
        "rows": rows,
        "seconds_ratio": median(
            a / b for a, b in zip(spent["move"], spent["revealed"], strict=True)
        ),
        "rows_ratio": rows["move"] / rows["revealed"],
    }


def main() -> None:
    """Run the parts and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=("policy", "cost"), default=("policy", "cost"))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "move_update.json")
    asked = parser.parse_args()
    is_small = asked.smoke
    result: dict[str, Any] = {"machine": describe_machine()}
    parts: dict[str, Callable[[Path], Any]] = {
        "policy": lambda place: policy(
            place, 4 if is_small else 24, ["steps=2", "data.batch_size=8"] if is_small else []
        ),
        "cost": lambda _: cost(1, (15, 30)) if is_small else cost(5),
    }
    for name in asked.only:
        with tempfile.TemporaryDirectory() as directory:
            result[name] = parts[name](Path(directory))
    if "cost" in result:
        print(result["cost"])
    write_result(asked.out, result)


if __name__ == "__main__":
    main()
