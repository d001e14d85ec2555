"""Statistics: one number over packs, then one over the updates of a step."""

import pytest
import torch

from unmask.objectives.statistics import Metric, Statistic, StatisticSums, over_updates


def test_values_of_several_packs_are_reduced_together() -> None:
    sums = StatisticSums()
    for values in ([1.0, 2.0], [6.0]):
        tensor = torch.tensor(values, requires_grad=True)
        sums.add(
            {
                "mean": Statistic(tensor),
                "sum": Statistic(tensor, "sum"),
                "max": Statistic(tensor, "max", is_of_first=True),
                "share": Statistic(tensor > 1),
            },
            len(values),
        )
    assert sums.metrics() == {
        "mean": Metric(3.0),
        "sum": Metric(9.0, "sum"),
        "max": Metric(6.0, "max", is_of_first=True),
        "share": Metric(pytest.approx(2 / 3)),
    }


def test_updates_are_reduced_as_their_statistics_are() -> None:
    updates = [
        {
            "mean": Metric(value),
            "sum": Metric(value, "sum"),
            "max": Metric(-value, "max"),
            "gap": Metric(value, "max", is_of_first=True),
        }
        for value in (1.0, 2.0, 6.0)
    ]
    assert over_updates(updates) == {"mean": 3.0, "sum": 9.0, "max": -1.0, "gap": 1.0}


def test_no_packs_have_no_statistics() -> None:
    assert StatisticSums().metrics() == {}
