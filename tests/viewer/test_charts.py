"""Every metric that a run logged has a chart, related ones share it, and the notes name what is left out."""

from typing import Any

from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE, metrics
from unmask.viewer.charts import (
    COLOURS,
    MORE,
    OUTCOME,
    TIME,
    UPDATE,
    Chart,
    charts_from_curves,
    figure,
)
from unmask.viewer.curves import curves_from_metrics


def drawn(rows: list[dict[str, Any]]) -> dict[str, list[Chart]]:
    return charts_from_curves(curves_from_metrics(rows))


def only(rows: list[dict[str, Any]]) -> Chart:
    ((chart,),) = drawn(rows).values()
    return chart


def labels(chart: Chart) -> list[str]:
    return [line["label"] for line in chart.data["lines"]]


def test_sections_follow_the_page() -> None:
    assert list(drawn(metrics(20))) == [OUTCOME, UPDATE, TIME]


def test_held_out_accuracy_has_its_interval() -> None:
    accuracy = drawn(metrics(20))[OUTCOME][0]
    (line,) = accuracy.data["lines"]
    assert (accuracy.title, line["label"], accuracy.data["is_share"]) == (
        "Accuracy",
        "held out",
        True,
    )
    assert (line["low"], line["high"], line["colour"]) == (
        [0.45, 0.9],
        [0.5, 1.0],
        COLOURS["held out"],
    )
    assert "95 % interval" in accuracy.note


def test_gap_is_on_a_log_axis_unless_it_reaches_zero() -> None:
    found = {chart.title: chart for chart in drawn(metrics(20))[UPDATE]}
    assert found["Engine and learner"].data["is_log"]
    assert not found["Loss"].data["is_log"]
    exact = only([{"step": s, "logprob_gap": (s - 1) * 1e-7} for s in (1, 2)])
    assert not exact.data["is_log"]


def test_stages_share_a_chart_without_evaluation() -> None:
    seconds = drawn(metrics(20))[TIME][0]
    assert labels(seconds) == ["rollout"]


def test_reward_parts_share_charts_of_six() -> None:
    row = {"step": 1, "reward_cpu_s": 1.0, "reward_wall_s": 1.0}
    row |= {f"reward_{name}": 1.0 for name in "abcdefgh"}
    found = drawn([row])
    assert [len(labels(chart)) for chart in found[OUTCOME]] == [6, 2]
    assert labels(found[TIME][0]) == ["reward"]


def test_one_curve_under_several_names_is_drawn_once() -> None:
    both = {"accuracy": 0.25, "reward": 0.25, "reward_outcome": 0.25, "reward_crash": 0.0}
    rows = [{"step": s, **both, "reward_graded": s / 9} for s in range(1, 4)]
    rows[-1] |= {"eval_accuracy": 0.5, "eval_reward": 0.5}
    found = drawn(rows)
    assert [(c.title, labels(c)) for c in found[OUTCOME]] == [
        ("Accuracy", ["rollouts", "held out"])
    ]
    note = found[OUTCOME][0].note
    assert "The same numbers: reward, reward_outcome, eval_reward." in note
    assert "Always 0: reward_crash." in note
    assert [labels(chart) for chart in found[MORE]] == [["graded"]]
    other = drawn([{**row, "reward": 0.5} for row in rows])[OUTCOME]
    assert [chart.title for chart in other] == ["Accuracy", "Reward", "Reward parts"]


def test_metrics_outside_the_table_are_shown() -> None:
    ((chart,),) = [drawn([{"step": 1, "surprise": 2.0}])[MORE]]
    assert chart.title == "surprise"


def test_metrics_without_a_finite_value_are_left_out() -> None:
    assert drawn([{"step": 1, "kl": None}]) == {}


def test_gaps_are_counted_in_the_note() -> None:
    chart = only([{"step": s, "loss": None if s in (3, 4) else 1.0} for s in range(1, 7)])
    assert "loss: NaN or infinite at 2 steps." in chart.note


def test_an_outlier_is_off_the_axis_and_in_the_note() -> None:
    rows = [{"step": s, "gradient_norm": 9e5 if s == 50 else s % 5 + 1.0} for s in range(100)]
    chart = only(rows)
    assert "values range from 1 to 900,000" in chart.note
    low, high = chart.data["range"]
    assert low == 1.0 and 5 < high < 20
    assert only(rows[:50]).data["range"] is None


def test_hostile_names_are_text() -> None:
    page = Page(figure(Chart(HOSTILE[0], HOSTILE[1], {}), 3))
    assert not page.all("script") and not page.all("img")
    assert page.all("h3")[0].text == HOSTILE[0]
    assert page.all("figure")[0].attributes["data-chart"] == "3"
