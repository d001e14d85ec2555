"""Every number a run logged has its chart, and related ones share it."""

from tests.viewer.toy_run import metrics
from unmask.viewer.curves import MORE, OUTCOME, TIME, UPDATE, charts
from unmask.viewer.series import history


def test_sections_follow_the_page() -> None:
    assert list(charts(history(metrics(20)))) == [OUTCOME, UPDATE, TIME]


def test_held_out_accuracy_has_its_interval() -> None:
    (accuracy, *_) = charts(history(metrics(20)))[OUTCOME]
    (line,) = accuracy.lines
    assert (accuracy.title, line.label, accuracy.is_share) == ("Accuracy", "held out", True)
    assert line.bounds is not None
    assert line.bounds[0].values == (0.45, 0.9)


def test_gap_is_on_a_log_axis() -> None:
    drawn = {chart.title: chart for chart in charts(history(metrics(20)))[UPDATE]}
    assert drawn["Engine and learner"].is_log
    assert not drawn["Loss"].is_log


def test_stages_are_stacked_without_evaluation() -> None:
    (seconds, *_) = charts(history(metrics(20)))[TIME]
    assert seconds.is_stacked
    assert [line.label for line in seconds.lines] == ["rollout"]


def test_reward_parts_share_charts_of_six() -> None:
    row = {"step": 1, "reward_cpu_s": 1.0, "reward_wall_s": 1.0}
    row |= {f"reward_{name}": 1.0 for name in "abcdefgh"}
    drawn = charts(history([row]))
    assert [len(chart.lines) for chart in drawn[OUTCOME]] == [6, 2]
    assert [line.label for line in drawn[TIME][0].lines] == ["reward"]


def test_unknown_numbers_are_shown() -> None:
    (chart,) = charts(history([{"step": 1, "surprise": 2.0}]))[MORE]
    assert chart.title == "surprise"


def test_numbers_that_never_were_are_left_out() -> None:
    assert charts(history([{"step": 1, "kl": None}])) == {}


def test_lines_that_coincide_are_one() -> None:
    rows = [{"step": s, "loss": 1 / s, "nll": 1 / s + 1e-9} for s in (1, 2)]
    (loss,) = charts(history(rows))[UPDATE]
    assert [line.label for line in loss.lines] == ["loss = nll"]
    rows[1]["nll"] = 3.0
    (loss,) = charts(history(rows))[UPDATE]
    assert len(loss.lines) == 2
