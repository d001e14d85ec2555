"""What the responses of one sampling amount to.

`Summary` is a function of the responses and their verdicts alone, so a run that was killed and gone on
with has the summary of one that was not, to the bit. `Speed` is what was measured while they were
written: forward passes depend on what shared them (a prompt is fed in chunks when many wait, and once
for all its answers), seconds on the machine.

A response is right when its reward is exactly 1. One that could not be written (the model's logits were
not numbers, the problem left no room) failed: it counts as wrong and has no length.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from unmask.evaluation.metrics import (
    Interval,
    majority_at,
    pass_at,
    ratio_interval,
    share_interval,
    sizes_up_to,
    wilson_interval,
)

Outcome = Literal["correct", "wrong", "timeout", "crash", "unfit", "failed"]
NUM_BINS = 24


@dataclass(frozen=True, slots=True)
class Response:
    """What a summary needs of one response.

    Attributes:
        reward: what the grader gave; 0 where it gave no verdict.
        outcome: right, wrong, no verdict (`timeout`, `crash`, or `unfit` where the problem itself cannot
            be judged), or not written (`failed`).
        answer: what was extracted from it, for the majority vote.
        tokens: response tokens, stop token included.
        denoising_steps: denoising passes.
        forwards: forward passes that held one of its tokens.
        is_truncated: whether `max_tokens` ended it.
        wall_s: seconds since the response before it had ended.
    """

    reward: float
    outcome: Outcome
    answer: str = ""
    tokens: int = 0
    denoising_steps: int = 0
    forwards: int = 0
    is_truncated: bool = False
    wall_s: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether it counts as right."""
        return self.outcome == "correct"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    ci95: Interval


@dataclass(frozen=True, slots=True)
class Bin:
    """Responses of `first` to `last` tokens."""

    first: int
    last: int
    right: int
    others: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What an evaluation found.

    Attributes:
        accuracy: share of responses that are right, over all problems and samples (avg@n).
        ci95: its 95 % interval: Wilson for one sample per problem, bootstrap over problems for
            more.
        pass_at: by k, the chance that one of k responses is right.
        majority_at: by k, the chance that the most frequent answer of k responses is right.
        reward: mean reward of a response.
        n: problems.
        samples: responses per problem.
        outcomes: how many responses had each outcome.
        tokens_per_denoising_step: response tokens over denoising passes.
        tokens_per_denoising_step_ci95: bootstrap over problems.
        response_tokens: mean response length.
        truncated: share of responses that `max_tokens` ended.
        lengths: how long responses are.
    """

    accuracy: float
    ci95: Interval
    pass_at: Mapping[int, Estimate]
    majority_at: Mapping[int, Estimate]
    reward: float
    n: int
    samples: int
    outcomes: Mapping[Outcome, int]
    tokens_per_denoising_step: float
    tokens_per_denoising_step_ci95: Interval
    response_tokens: float
    truncated: float
    lengths: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast responses were written.

    Attributes:
        tokens_per_forward: response tokens over forward passes that held one of their tokens.
        tokens_per_forward_ci95: bootstrap over problems.
        forwards: mean forward passes of a response.
        wall_s: seconds on the clock, all responses together.
        tokens_per_s: response tokens per second, all responses together.
    """

    tokens_per_forward: float
    tokens_per_forward_ci95: Interval
    forwards: float
    wall_s: float
    tokens_per_s: float


def outcome_of(reward: float, parts: Mapping[str, float]) -> Outcome:
    """Return the outcome of a response that was judged, from its reward and the reward's named parts."""
    if parts.get("unfit"):
        return "unfit"
    if parts.get("verifier_timeout"):
        return "timeout"
    if parts.get("verifier_crash"):
        return "crash"
    return "correct" if reward == 1.0 else "wrong"


def summarize(problems: Sequence[Sequence[Response]]) -> Summary:
    """Return the summary of as many responses to each problem; at least one must have been written."""
    samples = len(problems[0])
    right = [sum(r.is_right for r in responses) for responses in problems]
    shares = [count / samples for count in right]
    tokens, steps = _sums(problems, "tokens"), _sums(problems, "denoising_steps")
    everyone = [r for responses in problems for r in responses]
    written = [r for r in everyone if r.outcome != "failed"]
    outcomes = Counter(r.outcome for r in everyone)
    count = len(problems)
    return Summary(
        accuracy=sum(shares) / count,
        ci95=wilson_interval(sum(shares), count) if samples == 1 else share_interval(shares),
        pass_at={
            k: _mean([pass_at(k, num_right, samples) for num_right in right])
            for k in sizes_up_to(samples)
        },
        majority_at={
            k: _mean([_majority(k, responses) for responses in problems])
            for k in sizes_up_to(samples)
        },
        reward=sum(r.reward for r in everyone) / len(everyone),
        n=count,
        samples=samples,
        outcomes={outcome: outcomes[outcome] for outcome in get_args(Outcome)},
        tokens_per_denoising_step=sum(tokens) / sum(steps),
        tokens_per_denoising_step_ci95=ratio_interval(tokens, steps),
        response_tokens=sum(tokens) / len(written),
        truncated=sum(r.is_truncated for r in written) / len(written),
        lengths=histogram(written),
    )


def speed_of(problems: Sequence[Sequence[Response]]) -> Speed:
    """Return how fast the responses were written; at least one must have been."""
    tokens, forwards = _sums(problems, "tokens"), _sums(problems, "forwards")
    everyone = [r for responses in problems for r in responses]
    wall_s = sum(r.wall_s for r in everyone)
    return Speed(
        tokens_per_forward=sum(tokens) / sum(forwards),
        tokens_per_forward_ci95=ratio_interval(tokens, forwards),
        forwards=sum(forwards) / sum(r.outcome != "failed" for r in everyone),
        wall_s=wall_s,
        tokens_per_s=sum(tokens) / wall_s,
    )


def histogram(responses: Sequence[Response]) -> tuple[Bin, ...]:
    """Return how many responses are how long, in bins of equal width from 1 to the longest."""
    longest = max(r.tokens for r in responses)
    width = -(-longest // NUM_BINS)
    right = Counter((r.tokens - 1) // width for r in responses if r.is_right)
    every = Counter((r.tokens - 1) // width for r in responses)
    return tuple(
        Bin(width * place + 1, width * (place + 1), right[place], every[place] - right[place])
        for place in range(-(-longest // width))
    )


def _majority(k: int, responses: Sequence[Response]) -> float:
    return majority_at(k, [r.answer for r in responses], [r.is_right for r in responses])


def _mean(values: Sequence[float]) -> Estimate:
    return Estimate(sum(values) / len(values), share_interval(values))


def _sums(problems: Sequence[Sequence[Response]], name: str) -> list[int]:
    return [sum(getattr(r, name) for r in responses) for responses in problems]
