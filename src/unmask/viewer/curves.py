"""Which curves a run shows, and what each means: a table, not code per kind of run.

A chart appears when one of its metrics was logged, so SFT, RL and whatever comes later share the
table. A metric that no row claims still gets a chart of its own, under "More": a report must not
hide a number because it is new.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from unmask.viewer.charts import Chart, Line
from unmask.viewer.series import Column, History

# Stages are drawn without evaluation: it runs seldom, and would press all others flat.
SELDOM = "eval"


@dataclass(frozen=True, slots=True)
class Row:
    """A chart before it is known which of its metrics a run has.

    Attributes:
        section: where on the page.
        title: of the chart.
        note: what it means, in a sentence.
        metrics: names in `metrics.jsonl`, each with its label.
        is_share: whether values are shares.
        is_log: whether the axis is logarithmic.
        is_noisy: whether a smoothed curve says more than the points.
    """

    section: str
    title: str
    note: str
    metrics: Mapping[str, str]
    is_share: bool = False
    is_log: bool = False
    is_noisy: bool = True


OUTCOME, UPDATE, TIME, MORE = "Outcome", "Update", "Time", "More"
SECTIONS = (OUTCOME, UPDATE, TIME, MORE)

ROWS = (
    Row(
        OUTCOME,
        "Accuracy",
        "Share of responses judged right.",
        {"accuracy": "rollouts", "eval_accuracy": "held out"},
        is_share=True,
    ),
    Row(OUTCOME, "Reward", "Mean over all responses of the step.", {"reward": "rollouts"}),
    Row(
        OUTCOME,
        "Tokens per denoising step",
        "How many tokens are revealed at once: higher is faster writing.",
        {"tokens_per_denoising_step": "rollouts", "eval_tokens_per_denoising_step": "held out"},
    ),
    Row(
        OUTCOME,
        "Response tokens",
        "Mean length, stop token included.",
        {"response_tokens": "rollouts", "eval_response_tokens": "held out"},
    ),
    Row(
        OUTCOME,
        "Truncated",
        "Share of responses that max_tokens ended.",
        {"truncated": "rollouts", "eval_truncated": "held out"},
        is_share=True,
    ),
    Row(
        UPDATE,
        "Loss",
        "What the optimizer lowers; in RL its sign and size say little.",
        {"loss": "loss", "nll": "nll"},
    ),
    Row(UPDATE, "KL", "Estimated divergence from the policy that wrote.", {"kl": "nats"}),
    Row(UPDATE, "Entropy", "Of the distributions targets are drawn from.", {"entropy": "nats"}),
    Row(
        UPDATE,
        "Ratio",
        "Mean probability ratio of new to old policy: near 1 is on policy.",
        {"ratio": "mean"},
    ),
    Row(
        UPDATE,
        "Clipped",
        "Share of tokens whose ratio left the clip range.",
        {"clipped": "tokens"},
        is_share=True,
    ),
    Row(
        UPDATE,
        "Groups kept",
        "Share of prompts trained on; the others were filtered, most of them because all responses"
        " earned the same.",
        {"groups_kept": "prompts"},
        is_share=True,
    ),
    Row(UPDATE, "Gradient norm", "Before clipping.", {"gradient_norm": "norm"}),
    Row(UPDATE, "Learning rate", "As scheduled.", {"learning_rate": "rate"}, is_noisy=False),
    Row(
        UPDATE,
        "Engine and learner",
        "Gap between their log-probabilities of the same token, in nats (logarithmic axis).",
        {"logprob_gap_max": "largest", "logprob_gap": "mean"},
        is_log=True,
    ),
    Row(TIME, "Tokens per second", "While writing (RL) or training (SFT).", {"tokens_per_s": ""}),
    Row(TIME, "Packed tokens", "Tokens the learner's forward passes held.", {"packed_tokens": ""}),
)


def charts(curves: History) -> dict[str, list[Chart]]:
    """Return the charts of a run by section, in the order of the page; sections without one are left out."""
    left = {name: column for name, column in curves.columns.items() if column.finite}
    intervals = _take_intervals(left)
    stages = _take_stages(left)
    found: dict[str, list[Chart]] = {section: [] for section in SECTIONS}
    for row in ROWS:
        lines = _distinct(
            Line(label, left.pop(name), intervals.get(name))
            for name, label in row.metrics.items()
            if name in left
        )
        if lines:
            kinds = {"is_share": row.is_share, "is_log": row.is_log, "is_noisy": row.is_noisy}
            found[row.section].append(Chart(row.title, row.note, lines, **kinds))
    if stages:
        note = "Wall time of a step by stage, smoothed; evaluation is left out."
        found[TIME].insert(0, Chart("Seconds per step", note, stages, is_stacked=True))
    if parts := [name for name in left if name.startswith("reward_")]:
        lines = [Line(name.removeprefix("reward_"), left.pop(name)) for name in sorted(parts)]
        # The palette has six colours, and a seventh line could not be told from the first.
        found[OUTCOME].extend(
            Chart("Reward parts", "Mean over all responses of the step.", lines[first : first + 6])
            for first in range(0, len(lines), 6)
        )
    found[MORE] += [
        Chart(name, "", [Line(name, column, intervals.get(name))]) for name, column in left.items()
    ]
    return {section: drawn for section, drawn in found.items() if drawn}


def _distinct(lines: Iterable[Line]) -> list[Line]:
    """Join a line that lies on the one before: only the upper one could be seen."""
    distinct: list[Line] = []
    for line in lines:
        if distinct and not line.bounds and _coincide(distinct[-1].column, line.column):
            before = distinct.pop()
            line = replace(before, label=f"{before.label} = {line.label}")
        distinct.append(line)
    return distinct


def _coincide(one: Column, other: Column) -> bool:
    height = max(map(abs, one.finite))
    return one.at == other.at and all(
        a == b or (a is not None and b is not None and abs(a - b) <= 1e-4 * height)
        for a, b in zip(one.values, other.values, strict=True)
    )


def _take_intervals(left: dict[str, Column]) -> dict[str, tuple[Column, Column]]:
    """Take `x_low` and `x_high` out where `x` has both, at the same steps."""
    found: dict[str, tuple[Column, Column]] = {}
    for name, column in list(left.items()):
        low, high = left.get(f"{name}_low"), left.get(f"{name}_high")
        if low and high and low.at == high.at == column.at:
            found[name] = left.pop(f"{name}_low"), left.pop(f"{name}_high")
    return found


def _take_stages(left: dict[str, Column]) -> Sequence[Line]:
    """Take the wall and CPU seconds of the stages out; return the wall times that are drawn."""
    lines: list[Line] = []
    for name in list(left):
        stage = name.removesuffix("_wall_s")
        if stage != name and f"{stage}_cpu_s" in left:
            column = left.pop(name)
            left.pop(f"{stage}_cpu_s")
            if stage != SELDOM:
                lines.append(Line(stage, column))
    return lines
