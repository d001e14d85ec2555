"""Thinning keeps means and extremes, and gaps stay gaps."""

from unmask.viewer.curves import curves_from_metrics


def test_short_runs_are_not_thinned() -> None:
    curves = curves_from_metrics([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1}])
    assert curves.steps == [1, 2] and curves.bucket == 1
    loss = curves.by_name["loss"]
    assert loss.values == loss.low == loss.high == (2.0, 1)
    assert loss.data == {"values": [2.0, 1.0]}


def test_no_metrics_have_no_curves() -> None:
    curves = curves_from_metrics([])
    assert (curves.steps, curves.by_name) == ([], {})


def test_buckets_keep_means_extremes_and_bounds() -> None:
    rows = [{"step": s, "x": float(s), "x_max": float(s)} for s in range(1, 8)]
    curves = curves_from_metrics(rows, max_points=3)
    assert (curves.bucket, curves.steps) == (3, [3, 6, 7])
    x = curves.by_name["x"]
    assert (x.values, x.low, x.high) == ((2, 5, 7), (1, 4, 7), (3, 6, 7))
    assert x.data == {"values": [2, 5, 7], "low": [1, 4, 7], "high": [3, 6, 7]}
    assert curves.by_name["x_max"].values == (3, 6, 7)


def test_long_runs_fit_a_screen() -> None:
    curves = curves_from_metrics([{"step": step, "x": 0.0} for step in range(1, 10_001)])
    assert 300 < len(curves.by_name["x"].at) <= 600


def test_rare_metrics_keep_the_steps_of_their_measurements() -> None:
    rows = [{"step": s} | ({"eval": s / 10} if s % 4 == 0 else {}) for s in range(1, 9)]
    curve = curves_from_metrics(rows).by_name["eval"]
    assert (curve.at, curve.values) == ((3, 7), (0.4, 0.8))
    assert curve.data == {"at": (3, 7), "values": [0.4, 0.8]}


def test_values_that_are_not_finite_are_counted_gaps() -> None:
    values = [1.0, None, float("nan"), -(10**400), 2.0]
    curve = curves_from_metrics([{"step": s, "x": v} for s, v in enumerate(values)]).by_name["x"]
    assert curve.values == (1.0, None, None, None, 2.0)
    assert curve.num_not_finite == 3 and set(curve.finite) == {1.0, 2.0}


def test_values_that_are_not_numbers_are_not_curves() -> None:
    row = {"step": 1, "name": "x", "flag": True, "list": [1], "kl": None}
    assert not curves_from_metrics([row]).by_name


def test_interval_is_folded_into_its_curve() -> None:
    rows = [{"step": s, "a": 0.5, "a_low": 0.4, "a_high": 0.7, "b_low": 1.0} for s in (10, 20)]
    curves = curves_from_metrics(rows).by_name
    assert set(curves) == {"a", "b_low"}
    assert curves["a"].has_interval
    assert (curves["a"].low, curves["a"].high) == ((0.4, 0.4), (0.7, 0.7))
