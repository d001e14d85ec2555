"""The summary of the responses of one sampling.

`Summary` is a function of the responses and their verdicts alone, so an interrupted and resumed run has
the summary of an uninterrupted one, to the bit. `Speed` holds measurements: forward passes depend on
the batch (a prompt is fed in chunks when many wait, and once for all its responses), seconds on the
machine.

A response is right when its reward is exactly 1. A failed one (the logits were not finite, or the
problem left no room) counts as wrong and has no length.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from unmask.evaluation.estimates import (
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
    """The parts of one response that a summary needs; lengths and counts as in `Trajectory`.

    Attributes:
        reward: the grader's; 0 without a verdict.
        outcome: `correct` or `wrong`; without a verdict `timeout`, `crash`, or `unfit` where the problem
            itself cannot be graded; `failed` where no response could be written.
        answer: the extracted answer, for the majority vote.
        num_response: response tokens, stop token included.
        num_denoising_steps: denoising passes.
        num_forwards: forward passes that held one of its tokens.
        finish: `length` where `max_tokens` ended it.
        wall_s: seconds since the previous response of its rank ended, divided by the number of ranks.
    """

    reward: float
    outcome: Outcome
    answer: str = ""
    num_response: int = 0
    num_denoising_steps: int = 0
    num_forwards: int = 0
    finish: str | None = None
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
    """Estimates over all responses of one sampling.

    Attributes:
        accuracy: share of responses that are right, over all problems and samples (avg@n).
        ci95: its 95 % interval: Wilson for one sample per problem, bootstrap over problems for
            more.
        pass_at: by k, the chance that one of k responses is right.
        majority_at: by k, the chance that the most frequent answer of k responses is right.
        reward: mean reward of a response.
        n: problems.
        samples: responses per problem.
        outcomes: number of responses by outcome.
        tokens_per_denoising_step: response tokens over denoising passes.
        tokens_per_denoising_step_ci95: bootstrap over problems.
        response_tokens: mean response length.
        truncated: share of responses that `max_tokens` ended.
        lengths: histogram of response lengths.
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
    """Measured speed of one sampling.

    Attributes:
        tokens_per_forward: response tokens over forward passes that held one of their tokens.
        tokens_per_forward_ci95: bootstrap over problems.
        forwards: mean forward passes of a response.
        wall_s: seconds on the clock, all responses together; of several ranks the mean, without waiting
            for the last one.
        tokens_per_s: response tokens per second, all responses and ranks together.
    """

    tokens_per_forward: float
    tokens_per_forward_ci95: Interval
    forwards: float
    wall_s: float
    tokens_per_s: float


def outcome_of(reward: float, parts: Mapping[str, float]) -> Outcome:
    """Return the outcome of a graded response from its reward and the reward's named parts."""
    if parts.get("unfit"):
        return "unfit"
    if parts.get("verifier_timeout"):
        return "timeout"
    if parts.get("verifier_crash"):
        return "crash"
    return "correct" if reward == 1.0 else "wrong"


def summarize(problems: Sequence[Sequence[Response]]) -> Summary:
    """Return the summary of equally many responses to each problem, of which at least one was written."""
    samples = len(problems[0])
    right = [sum(r.is_right for r in responses) for responses in problems]
    shares = [count / samples for count in right]
    tokens, steps = _sums(problems, "num_response"), _sums(problems, "num_denoising_steps")
    every = [r for responses in problems for r in responses]
    written = [r for r in every if r.outcome != "failed"]
    outcomes = Counter(r.outcome for r in every)
    count, sizes = len(problems), sizes_up_to(samples)
    return Summary(
        accuracy=sum(shares) / count,
        ci95=wilson_interval(sum(shares), count) if samples == 1 else share_interval(shares),
        pass_at={k: _mean([pass_at(k, of_one, samples) for of_one in right]) for k in sizes},
        majority_at={k: _mean([_majority(k, of_one) for of_one in problems]) for k in sizes},
        reward=sum(r.reward for r in every) / len(every),
        n=count,
        samples=samples,
        outcomes={outcome: outcomes[outcome] for outcome in get_args(Outcome)},
        tokens_per_denoising_step=sum(tokens) / sum(steps),
        tokens_per_denoising_step_ci95=ratio_interval(tokens, steps),
        response_tokens=sum(tokens) / len(written),
        truncated=sum(r.finish == "length" for r in written) / len(written),
        lengths=histogram(written),
    )


def speed_of(problems: Sequence[Sequence[Response]]) -> Speed:
    """Return the speed at which the responses were written; at least one must have been."""
    tokens, forwards = _sums(problems, "num_response"), _sums(problems, "num_forwards")
    every = [r for responses in problems for r in responses]
    wall_s = sum(r.wall_s for r in every)
    return Speed(
        tokens_per_forward=sum(tokens) / sum(forwards),
        tokens_per_forward_ci95=ratio_interval(tokens, forwards),
        forwards=sum(forwards) / sum(r.outcome != "failed" for r in every),
        wall_s=wall_s,
        tokens_per_s=sum(tokens) / wall_s,
    )


def histogram(responses: Sequence[Response]) -> tuple[Bin, ...]:
    """Return the histogram of response lengths, in bins of equal width from 1 to the longest."""
    longest = max(r.num_response for r in responses)
    width = -(-longest // NUM_BINS)
    right = Counter((r.num_response - 1) // width for r in responses if r.is_right)
    every = Counter((r.num_response - 1) // width for r in responses)
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
