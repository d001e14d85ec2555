"""Which surrogate is the gradient of its sampler: every path of small samplers, enumerated.

    python benchmarks/exact_gradient.py [--only PART ...] [--smoke] [--out FILE]

The samplers are those of `tests/diffusion/enumeration_rules.py`, with policies and rewards by random table. With
the draws of all paths added up, a surrogate's expected gradient at a ratio of 1 is compared with the gradient
of expected reward: error is the distance in lengths of the exact gradient. The advantage of a response is its
reward less the expected one, as over an infinitely large group. Parts:

    rules      error and cosine of what was revealed and of the whole move, and their variance by one response
    sizes      the same up to 5 tokens on 6 positions, where paths that meet in a canvas are merged
    options    positions right of a stop left out; denoising steps merged by `views.shrink`
    jumps      expected reward along lines through the parameters, and the part of it that its gradient explains
    engine     100,000 responses of the engine against the probabilities of all paths

`exact_gradient.svg` next to the result is the picture of `jumps`. docs/exact.md shows the tables.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from setting import RESULTS, describe_machine, write_result
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from exact_gradient_plot import draw

from tests.diffusion.enumeration import (
    Moves,
    Paths,
    Toy,
    along,
    enumerate_moves,
    expectation,
    expected_surrogate,
    moved,
    paths_of,
    revealed,
    written_factors,
)
from tests.diffusion.enumeration_rules import EDITS, RULES, toy_of
from tests.diffusion.test_moves import chi_square, engine_counts

SURROGATES: dict[str, Callable[[list[Moves]], list[Tensor]]] = {"revealed": revealed, "move": moved}
LARGE = {
    "static": [(2, 4), (3, 4), (4, 5), (5, 6)],
    "dynamic": [(2, 4), (3, 4), (4, 5), (5, 6)],
    "factor, wide, cool": [(3, 4), (5, 6)],
    "entropy": [(3, 4), (5, 6)],
    "dynamic, edits": [(3, 2), (5, 2)],
    "static, remask": [(3, 4), (4, 5)],
}
ENGINE = [
    {"strategy": "static", "temperature": 0.7},
    {"strategy": "dynamic", "threshold": 0.6},
    {"strategy": "factor", "factor": 0.9, "block_size": 2},
    {"strategy": "entropy"},
]


class Found(NamedTuple):
    """An enumerated sampler.

    Attributes:
        toy: the sampler.
        theta: its policy.
        levels: its moves.
        reward: expected, with a gradient.
        centred: reward of each canvas less the expected one.
        exact: gradient of the expected reward.
    """

    toy: Toy
    theta: Tensor
    levels: list[Moves]
    reward: Tensor
    centred: Tensor
    exact: Tensor


def enumerated(toy: Toy, seed: int, is_merged: bool = True) -> Found:
    """Enumerate a sampler under a random policy, with normal rewards of mean 0."""
    theta = toy.policy(seed).requires_grad_()
    levels = enumerate_moves(toy, theta, is_merged)
    rewards = torch.special.ndtri(toy.rewards(seed))  # normal
    reward = expectation(toy, levels, rewards).reward
    (exact,) = torch.autograd.grad(reward, theta, retain_graph=True)
    return Found(toy, theta, levels, reward, rewards - reward.detach(), exact)


def compared(found: Found, surrogate: Tensor) -> dict[str, float]:
    """Return error and cosine of the gradient of an expected surrogate."""
    (gradient,) = torch.autograd.grad(surrogate, found.theta, retain_graph=True)
    cosine = (gradient * found.exact).sum() / (gradient.norm() * found.exact.norm())
    error = (gradient - found.exact).norm() / found.exact.norm()
    return {"error": float(error), "cosine": float(cosine)}


def of_surrogates(found: Found) -> dict[str, dict[str, float]]:
    """Return error and cosine of each surrogate."""
    seen = expectation(found.toy, found.levels, found.centred)
    return {
        name: compared(found, expected_surrogate(found.levels, seen, logprobs(found.levels)))
        for name, logprobs in SURROGATES.items()
    }


def variance(found: Found, paths: Paths, logprobs: list[Tensor]) -> float:
    """Return the trace of the covariance of one response's gradient, of levels that are not merged."""
    scores, advantages = along(found.levels, paths, logprobs), _advantages(found, paths)
    second, mean = 0.0, torch.zeros_like(found.theta)
    for score, worth, share in zip(scores, advantages, paths.probability, strict=True):
        (own,) = torch.autograd.grad(score, found.theta, retain_graph=True)
        second += float(share * (worth * own).square().sum())
        mean += share * worth * own
    return second - float(mean.square().sum())


def _advantages(found: Found, paths: Paths) -> Tensor:
    return found.toy.reward(found.centred, paths.canvas)


def rules(seeds: int) -> dict[str, Any]:
    """Return error, cosine and variance under every rule, means over random policies."""
    table: dict[str, Any] = {}
    for name in RULES | EDITS:
        canvas = 2 if name in EDITS else 4 if "blocks" in name else 3
        rows: dict[str, list[dict[str, float]]] = {surrogate: [] for surrogate in SURROGATES}
        for seed in range(seeds):
            found = enumerated(toy_of(name, 3, canvas), seed, is_merged=False)
            paths = paths_of(found.toy, found.levels)
            for surrogate, values in of_surrogates(found).items():
                own = SURROGATES[surrogate](found.levels)
                values["variance"] = variance(found, paths, own) if seed < 2 else 0.0
                rows[surrogate].append(values)
        table[name] = {
            surrogate: {
                "error": fmean(v["error"] for v in values),
                "error_max": max(v["error"] for v in values),
                "cosine": fmean(v["cosine"] for v in values),
                "variance": fmean(v["variance"] for v in values[:2]),
            }
            for surrogate, values in rows.items()
        }
        print(name, table[name], flush=True)
    return table


def sizes(is_small: bool) -> list[dict[str, Any]]:
    """Return errors, and how far probabilities of moves are from 1 in all, up to larger sizes."""
    rows: list[dict[str, Any]] = []
    for name, shapes in LARGE.items():
        for vocabulary, canvas in shapes[: 1 if is_small else None]:
            start = time.process_time()
            found = enumerated(toy_of(name, vocabulary, canvas), 0)
            far = [
                (m.factors.detach().sum(-1).exp() - m.probability.detach()).abs().max()
                for m in found.levels
            ]
            rows.append(
                {
                    "rule": name,
                    "vocabulary": vocabulary,
                    "canvas": canvas,
                    "moves": sum(len(moves.source) for moves in found.levels),
                    "probability_error": float(torch.stack(far).max()),
                    **of_surrogates(found),
                    "cpu_s": time.process_time() - start,
                }
            )
            print(rows[-1], flush=True)
    return rows


def options(seeds: int) -> dict[str, Any]:
    """Return the errors of moves scored up to the stop only, and of merged denoising steps."""
    table: dict[str, Any] = {}
    for name in [n for n in RULES if "early stop" in n]:
        errors = list[float]()
        for seed in range(seeds):
            found = enumerated(toy_of(name, 3, 4 if "blocks" in name else 3), seed, False)
            paths = paths_of(found.toy, found.levels)
            is_response = torch.arange(found.toy.canvas) < found.toy.lengths(paths.canvas)[:, None]
            factors = along(found.levels, paths, [moves.factors for moves in found.levels])
            kept = (factors * is_response).sum(-1)
            worth = paths.probability * _advantages(found, paths)
            errors.append(compared(found, (worth * kept).sum())["error"])
        table[f"ignore, {name}"] = {"error": fmean(errors), "error_max": max(errors)}
    for shrink in (2, 3):
        for name in ("entropy", "random", "left_to_right"):
            errors = [_shrunk_error(name, shrink, seed) for seed in range(seeds)]
            table[f"shrink {shrink}, {name}"] = {"error": fmean(errors), "error_max": max(errors)}
    return table


def _shrunk_error(name: str, shrink: int, seed: int) -> float:
    """Return the error where `shrink` denoising steps are scored in the state before the first of them."""
    found = enumerated(toy_of(name, 3, 3), seed, is_merged=False)
    paths, toy = paths_of(found.toy, found.levels), found.toy
    canvas = torch.full((len(paths.moves), toy.canvas), toy.vocabulary)
    state, score = canvas, torch.zeros(len(canvas), dtype=torch.float64)
    for level, moves in enumerate(found.levels):
        row = paths.moves[:, level]
        state = canvas if level % shrink == 0 else state
        logprobs = (found.theta[toy.state(state)] / toy.params.temperature).log_softmax(-1)
        after = moves.after[row.clamp(min=0)]
        is_own = written_factors(moves)[row.clamp(min=0)] & (row >= 0)[:, None]
        ids = after.clamp(max=toy.vocabulary - 1)[..., None]
        score = score + (logprobs.gather(-1, ids)[..., 0] * is_own).sum(-1)
        canvas = after.where((row >= 0)[:, None], canvas)
    worth = paths.probability * _advantages(found, paths)
    return compared(found, (worth * score).sum())["error"]


def jumps(points: int) -> dict[str, Any]:
    """Return expected reward along a line through the parameters, and its gradient's integral from the start."""
    table: dict[str, Any] = {}
    for name in ("static", "entropy", "left_to_right"):
        toy = toy_of(name, 3, 3)
        start, end = toy.policy(1), toy.policy(2)
        rewards = torch.special.ndtri(toy.rewards(3))
        values, explained, slope = list[float](), [0.0], 0.0
        for number in range(points):
            theta = torch.lerp(start, end, number / (points - 1)).requires_grad_()
            reward = expectation(toy, enumerate_moves(toy, theta), rewards).reward
            (gradient,) = torch.autograd.grad(reward, theta)
            values.append(float(reward.detach()))
            before, slope = slope, float((gradient * (end - start)).sum())
            if number:
                explained.append(explained[-1] + (before + slope) / 2 / (points - 1))
        table[name] = {
            "change": values[-1] - values[0],
            "of_jumps": values[-1] - values[0] - explained[-1],
            "reward": values,
            "explained": [values[0] + e for e in explained],
        }
        print(name, table[name]["change"], table[name]["of_jumps"], flush=True)
    return table


def engine(responses: int) -> list[dict[str, Any]]:
    """Return chi-square p-values of the paths that the engine took."""
    rows: list[dict[str, Any]] = []
    for rule in ENGINE:
        counts, probability = engine_counts(rule, responses)
        p_value = chi_square(counts, probability)
        rows.append({"rule": rule, "paths": len(counts), "responses": responses, "p": p_value})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run the parts and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = ("rules", "sizes", "options", "jumps", "engine")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "exact_gradient.json")
    asked = parser.parse_args()
    is_small = asked.smoke
    parts: dict[str, Callable[[], Any]] = {
        "rules": lambda: rules(1 if is_small else 8),
        "sizes": lambda: sizes(is_small),
        "options": lambda: options(1 if is_small else 8),
        "jumps": lambda: jumps(5 if is_small else 401),
        "engine": lambda: engine(500 if is_small else 100_000),
    }
    result = {"machine": describe_machine(), **{name: parts[name]() for name in asked.only}}
    write_result(asked.out, result)
    if "jumps" in result:
        asked.out.with_suffix(".svg").write_text(draw(result["jumps"]))


if __name__ == "__main__":
    main()
