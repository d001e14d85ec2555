"""Losses of whole responses as plain loops over views, positions and draws, each from its published equation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.configs.methods.loss.boundary import BoundaryLoss
from unmask.configs.methods.loss.gdsd import GDSDLoss
from unmask.configs.methods.loss.sandwich import SandwichLoss
from unmask.configs.methods.loss.sequence_ratio import SequenceRatioLoss
from unmask.configs.methods.loss.token_ratio import TokenRatioLoss


@dataclass(frozen=True)
class Term:
    """A target: its draw, view and position, its weight in the estimate, and its log-probabilities."""

    draw: int
    view: int
    position: int
    weight: float
    own: Tensor
    old: float
    anchor: float


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def total(values: Sequence[Tensor]) -> Tensor:
    return sum(values, zero())


def number_of_draws(terms: Sequence[Term]) -> int:
    return 1 + max(term.draw for term in terms)


def estimate(terms: Sequence[Term], which: Callable[[Term], Tensor | float]) -> Tensor:
    """Return the mean over draws of the weighted sum of a draw's targets."""
    sums = [
        total([x.weight * which(x) + zero() for x in terms if x.draw == d])
        for d in range(number_of_draws(terms))
    ]
    return total(sums) / len(sums)


def clipped(ratio: Tensor, advantage: float, clip: tuple[float, float]) -> Tensor:
    inside = ratio.clamp(1 - clip[0], 1 + clip[1])
    return torch.minimum(ratio * advantage, inside * advantage)


def divergence(change: Tensor, estimator: str) -> Tensor:
    match estimator:
        case "k1":
            return change
        case "k2":
            return change * change / 2
        case _:
            return (-change).exp() - 1 + change


def token_ratio(
    terms: Sequence[Term], positions: Sequence[int], advantage: float, config: TokenRatioLoss
) -> list[Tensor]:
    found = []
    for position in positions:
        own, old, anchor = (
            total([x.weight * getattr(x, name) + zero() for x in terms if x.position == position])
            / number_of_draws(terms)
            for name in ("own", "old", "anchor")
        )
        gain = clipped((own - old).exp(), advantage, config.clip)
        found.append(config.kl * divergence(own - anchor, config.kl_estimator) - gain)
    return found


def sequence_ratio(
    terms: Sequence[Term], positions: Sequence[int], advantage: float, config: SequenceRatioLoss
) -> list[Tensor]:
    length = len(positions)
    own, old, anchor = (
        estimate(terms, lambda x, name=name: getattr(x, name)) for name in ("own", "old", "anchor")
    )
    kl = divergence(own - anchor, config.kl_estimator)
    match config.normalize:
        case "ratio":
            loss = -clipped(((own - old) / length).exp(), advantage, config.clip)
            loss = loss + config.kl * kl / length
        case "loss":
            loss = -clipped((own - old).exp(), advantage, config.clip) / length
            loss = loss + config.kl * kl / length
        case "none":
            loss = -clipped((own - old).exp(), advantage, config.clip) + config.kl * kl
    return [loss] * length


def sandwich(
    terms: Sequence[Term], positions: Sequence[int], advantage: float, config: SandwichLoss
) -> list[Tensor]:
    if not terms:  # one token that no coin hid
        return [zero()] * len(positions)
    elbo = estimate(terms, lambda x: x.own) / len(positions)
    logs = []
    for position in {x.position for x in terms}:
        powers = [x.weight * (config.beta * x.own).exp() for x in terms if x.position == position]
        logs.append((total(powers) / number_of_draws(terms)).log() / config.beta)
    eubo = total(logs) / len(logs)
    bound = elbo if advantage > 0 else config.mix * eubo + (1 - config.mix) * elbo
    return [-advantage * bound] * len(positions)


def boundary(
    terms: Sequence[Term], positions: Sequence[int], advantage: float, config: BoundaryLoss
) -> list[Tensor]:
    gains = []
    for draw in range(number_of_draws(terms)):
        own = [x.weight * (x.own - x.old) for x in terms if x.draw == draw]
        change = total(own) / len(positions)
        gain = clipped(1 + change if advantage > 0 else change.exp(), advantage, config.clip)
        if advantage < 0 and config.dual_clip is not None:
            gain = torch.maximum(gain, zero() + config.dual_clip * advantage)
        gains.append(gain)
    return [-total(gains) / len(gains)] * len(positions)


def gdsd(
    terms: Sequence[Term], positions: Sequence[int], advantage: float, config: GDSDLoss
) -> list[Tensor]:
    low, high = math.log(1 - config.clip[0]), math.log(1 + config.clip[1])
    losses = []
    for draw in range(number_of_draws(terms)):
        members = [x for x in terms if x.draw == draw]
        views = len({x.view for x in members})
        change = total([x.own - x.old for x in members]) / views
        far = total([x.own - x.anchor for x in members]) / views
        error = (change.clamp(low, high) / len(positions) - config.psi * advantage) ** 2
        losses.append(error + config.kl * far**2 / 2 / len(positions))
    return [total(losses) / len(losses)] * len(positions)


PLAIN = {
    "token_ratio": token_ratio,
    "sequence_ratio": sequence_ratio,
    "sandwich": sandwich,
    "boundary": boundary,
    "gdsd": gdsd,
}


def reduced(losses: Sequence[Sequence[Tensor]], reduction: str, length: int) -> Tensor:
    """Average losses of positions, by trajectory, by the configured rule."""
    flat = [loss for of_one in losses for loss in of_one]
    match reduction:
        case "tokens":
            return total(flat) / len(flat)
        case "sequence":
            return total([total(of_one) / len(of_one) for of_one in losses]) / len(losses)
        case _:
            return total(flat) / (len(losses) * length)
