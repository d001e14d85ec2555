"""Variance of the policy gradient with and without a value model, at a fixed policy.

    python benchmarks/critic.py                 # minutes of one core; the JSON states them
    python benchmarks/critic.py --seeds 0 --rounds 4

A tiny block-causal model with random weights writes 32 characters to each question, and is rewarded by the share of
digits among them: a reward that a reader of the first half of a response can predict half of. The policy is never
changed. Per seed, a value model is trained on `--rounds` rounds of fresh rollouts at each of `RATES`, with a cosine;
the rate whose values explain most of the variance of returns on rollouts for validation is kept. On further rollouts,
which neither saw, the gradient of each group of 16 responses is taken with the group's advantage alone, and with the
value model at lambda 1 and 0 (gamma 1). Reported are

    explained      share of the variance of returns that the values explain, over tokens
    advantage      variance of the advantages of tokens, over that without the value model
    gradient       trace of the covariance of the gradient over groups, over that without the value model
    cosine         of the mean gradient with the one without it: both estimate the same gradient at lambda 1

each as the mean over seeds with half of its 95 % interval (Student's t). Writes `benchmarks/results/critic.json`.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import torch
from intervals import mean_and_half
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from torch import Tensor

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer, num_tokens
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.families import family_named
from unmask.models.transformer import Model, initialise
from unmask.rollouts.collect import write_trajectories
from unmask.seeds import derive_seed
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.methods.value import Critic, build_value_model
from unmask.trainers.pack_budget import build_budget, lengths_of
from unmask.trainers.rollout_views import rollout_views
from unmask.trainers.value_targets import ValueTargets, value_targets
from unmask.types import Group, Message

ALPHABET = "0123456789abcdefghij"
RESPONSES = 16
RATES = (3e-3, 1e-2)
Rollouts = tuple[list[Group], list[Views]]
VALIDATION, TEST = 10_000, 20_000  # rounds of rollouts that are not trained on


@dataclass(frozen=True)
class Setting:
    """A fixed policy.

    Attributes:
        config: of a run with a value model.
        llm: the policy.
    """

    config: RLConfig
    llm: LLM

    def rollouts(self, number: int, count: int) -> Rollouts:
        """Return so many groups and their views, drawn from the seed of a round."""
        sampling = self.config.sampling.to_params(n=self.config.rollout.responses)
        uids = [(number * count + n) % 400 for n in range(count)]
        texts = [ALPHABET[uid % 20] + ALPHABET[uid // 20] for uid in uids]
        prompts = [
            replace(self.llm.prompt([Message("user", text)]), uid=uid)
            for text, uid in zip(texts, uids, strict=True)
        ]
        seed = derive_seed(self.config.run.seed, number)
        written = write_trajectories(self.llm, prompts, sampling, seed)
        rewards = [share_of_digits(self.llm.text(trajectory)) for trajectory in written]
        groups = [
            Group(prompt, written[n : n + sampling.n], rewards[n : n + sampling.n])
            for prompt, n in zip(prompts, range(0, len(written), sampling.n), strict=True)
        ]
        return groups, rollout_views(groups, self.config)


def share_of_digits(response: str) -> float:
    """Return the reward: the share of digits."""
    return sum(character.isdigit() for character in response) / max(1, len(response))


def make_setting(place: Path, seed: int, args: argparse.Namespace) -> Setting:
    """Write a policy with random weights, and load it."""
    size = num_tokens(character_tokenizer(ALPHABET, place))
    spec = replace(family_named("sdar").tiny, num_layers=2, width=32, ffn_width=64)
    model = Model(replace(spec, vocab_size=size, num_drawable=size, max_length=128))
    initialise(model, seed)
    save_model(model, place)
    words = [f"model.path={place}", "model.device=cpu", f"run.seed={seed}", "task.kind=json"]
    words += [f"sampling.max_tokens={args.tokens}", "sampling.strategy=static"]
    words += ["advantage.kind=value", "advantage.epochs=2", "advantage.minibatches=4"]
    words += ["advantage.clip=10", "loss.reduction=constant", f"rollout.responses={RESPONSES}"]
    config = load_config(
        RLConfig, [], [*words, f"steps={args.rounds}", "optimizer.schedule=cosine"]
    )[0]
    return Setting(config, build_llm(config.model, config.engine))


def trained_critic(setting: Setting, rate: float, rounds: Sequence[Rollouts]) -> Critic:
    """Return a value model that was trained on rounds of rollouts, one after the other."""
    advantage = setting.config.advantage.model_copy(update={"lr": rate})
    config = setting.config.model_copy(update={"advantage": advantage})
    critic = Critic(build_value_model(config, setting.llm.model), config)
    for number, rollouts in enumerate(rounds, 1):
        critic.update(critic.estimate(*rollouts), number, number)
    return critic


def explained(critic: Critic, rollouts: Rollouts) -> float:
    """Return the share of the variance of returns that the values explain."""
    return critic.estimate(*rollouts).metrics["value_explained_variance"]


def gradient(setting: Setting, views: Sequence[Views]) -> Tensor:
    """Return the gradient of a group's loss by the policy, flat."""
    model, objective = setting.llm.model, build_policy_objective(setting.config)
    budget = build_budget(model, setting.config.optimizer.token_budget)(lengths_of(views))
    for pack in pack_views(views, conventions_of(model), budget):
        (objective(score_pack(model, pack), pack).loss * pack.weights).sum().backward()
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return torch.cat(found).double()


def run_seed(seed: int, args: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Tune and train a value model, and measure on rollouts that it was not trained on."""
    setting = make_setting(place, seed, args)
    held_out = setting.rollouts(VALIDATION, args.prompts)
    rounds = [setting.rollouts(1 + n, args.prompts) for n in range(args.rounds)]
    critics = {rate: trained_critic(setting, rate, rounds) for rate in RATES[: args.rates]}
    validation = {rate: explained(critic, held_out) for rate, critic in critics.items()}
    best = max(validation, key=lambda rate: validation[rate])
    groups, plain = setting.rollouts(TEST, args.test)
    found: dict[str, Any] = {"rate": best, "validation": validation}
    gradients: dict[str, Tensor] = {}
    for name, lam in {"none": None, "lambda 1": 1.0, "lambda 0": 0.0}.items():
        views, row = plain, {"advantage": 1.0}
        if lam is not None:
            targets = targets_at(critics[best], setting.config, groups, plain, lam)
            metrics, views = targets.metrics, targets.views
            ratio = metrics["advantage_variance"] / metrics["advantage_variance_without_critic"]
            row = {"explained": metrics["value_explained_variance"], "advantage": ratio}
        of_groups = [views[n : n + RESPONSES] for n in range(0, len(views), RESPONSES)]
        gradients[name] = torch.stack([gradient(setting, group) for group in of_groups])
        found[name] = row | compare(gradients[name], gradients["none"])
    print(seed, found, flush=True)
    return found


def targets_at(
    critic: Critic,
    config: RLConfig,
    groups: Sequence[Group],
    views: Sequence[Views],
    lam: float,
) -> ValueTargets:
    """Return advantages of a critic at a lambda."""
    advantage = config.advantage.model_copy(update={"lam": lam})
    config = config.model_copy(update={"advantage": advantage})
    return value_targets(groups, views, critic.learner.score(views), config)


def compare(gradients: Tensor, plain: Tensor) -> dict[str, float]:
    """Return the variance `(M, W)` gradients have relative to others, and the cosine of their means."""
    cosine = torch.cosine_similarity(gradients.mean(0), plain.mean(0), dim=0)
    variance = gradients.var(0).sum() / plain.var(0).sum()
    return {"gradient": float(variance), "cosine": float(cosine)}


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return means, and half of their 95 % intervals, over seeds."""
    return {
        name: {key: mean_and_half([run[name][key] for run in runs]) for key in runs[0][name]}
        for name in ("lambda 1", "lambda 0")
    }


def show(summary: dict[str, Any]) -> None:
    """Print the table."""
    columns = ("explained", "advantage", "gradient", "cosine")
    table = Table("value model", *columns, title="Variance, relative to no value model")
    for name, row in summary.items():
        table.add_row(name, *(f"{row[key][0]:.3f} ± {row[key][1] or 0:.3f}" for key in columns))
    Console().print(table)


def main() -> None:
    """Run every seed, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--rounds", type=int, default=32, help="of rollouts that are trained on")
    parser.add_argument("--prompts", type=int, default=6, help="groups of a round")
    parser.add_argument("--test", type=int, default=48, help="groups whose gradients are compared")
    parser.add_argument("--tokens", type=int, default=32, help="of a response")
    parser.add_argument(
        "--rates", type=int, default=len(RATES), help="learning rates to choose from"
    )
    parser.add_argument("--smoke", action="store_true", help="a toy, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "critic.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.smoke:
        args.seeds, args.rounds, args.prompts, args.test, args.tokens, args.rates = (
            [0],
            2,
            2,
            3,
            8,
            1,
        )
    with tempfile.TemporaryDirectory() as work:
        runs = [run_seed(seed, args, Path(work) / str(seed)) for seed in args.seeds]
    summary = summarise(runs)
    show(summary)
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "smoke")}
    result: dict[str, Any] = {"machine": describe_machine(), "settings": settings}
    result["cpu_seconds"] = round(process_time())
    write_result(args.out, {**result, "summary": summary, "runs": runs})


if __name__ == "__main__":
    main()
