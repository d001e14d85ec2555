"""Softmax advantages come with the views; the update is that of a group."""

from tests.toy import toy_model
from tests.trainers.toy_critics import group_of
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import toy_trajectories
from unmask.objectives.advantages import softmax_advantages
from unmask.trainers.methods import group, softmax
from unmask.trainers.rollout_views import rollout_views


def test_the_views_have_the_weights_of_their_group() -> None:
    assert softmax.build is group.build
    trajectories = toy_trajectories(toy_model())
    groups = group_of(trajectories)
    views = rollout_views(groups, row(advantage={"kind": "softmax", "psi": 2.0}))
    expected = [a for g in groups for a in softmax_advantages([float(r) for r in g.rewards], 2.0)]  # type: ignore[arg-type]
    assert [round(float(v.advantages[0]), 5) for v in views] == [round(a, 5) for a in expected]
