"""Thinning keeps means and extremes, gaps stay gaps, smoothing does not lag."""

from unmask.viewer.series import history, smooth


def test_short_runs_are_drawn_as_they_are() -> None:
    curves = history([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1}])
    assert curves.steps == (1, 2) and curves.bucket == 1
    loss = curves.columns["loss"]
    assert loss.values == loss.low == loss.high == (2.0, 1)


def test_buckets_keep_means_extremes_and_bounds() -> None:
    rows = [{"step": s, "x": float(s), "x_max": float(s)} for s in range(1, 8)]
    curves = history(rows, max_points=3)
    assert (curves.bucket, curves.first_step, curves.steps) == (3, 1, (3, 6, 7))
    x = curves.columns["x"]
    assert (x.values, x.low, x.high) == ((2, 5, 7), (1, 4, 7), (3, 6, 7))
    assert curves.columns["x_max"].values == (3, 6, 7)


def test_long_runs_fit_a_screen() -> None:
    curves = history([{"step": step, "x": 0.0} for step in range(1, 10_001)])
    assert 300 < len(curves.columns["x"].at) <= 600


def test_rare_numbers_stand_where_they_were_measured() -> None:
    rows = [{"step": s} | ({"eval": s / 10} if s % 4 == 0 else {}) for s in range(1, 9)]
    column = history(rows).columns["eval"]
    assert (column.at, column.values) == ((3, 7), (0.4, 0.8))


def test_what_is_not_finite_is_a_counted_gap() -> None:
    values = [1.0, None, float("nan"), -(10**400), 2.0]
    column = history([{"step": s, "x": v} for s, v in enumerate(values)]).columns["x"]
    assert column.values == (1.0, None, None, None, 2.0)
    assert column.num_lost == 3 and column.finite == [1.0, 2.0]


def test_what_is_no_number_is_no_curve() -> None:
    assert not history([{"step": 1, "name": "x", "flag": True, "list": [1]}]).columns


def test_smoothing_keeps_lines_and_gaps() -> None:
    line = [float(value) for value in range(100)]
    smoothed = smooth(line)
    middle = zip(line[5:-5], smoothed[5:-5], strict=True)
    assert all(b is not None and abs(a - b) < 1e-9 for a, b in middle)
    assert smooth([*line[:50], None, *line[51:]])[50] is None
    assert smooth([1.0, 5.0]) == [1.0, 5.0]
