"""Progress advantages come with the views of drafts; the update is that of a group."""

from tests.toy import toy_model
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import toy_trajectories
from unmask.objectives.advantages import progress_advantages
from unmask.trainers.methods import group, progress
from unmask.trainers.rollout_views import rollout_views
from unmask.types import Group


def test_the_views_have_the_progress_of_their_drafts() -> None:
    assert progress.build is group.build
    trajectories = toy_trajectories(toy_model())
    rewards = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]  # two drafts each of three responses
    config = row(advantage={"kind": "progress"}, rollout={"drafts": 2})
    views = rollout_views([Group(trajectories[0].prompt, trajectories, rewards)], config)
    expected = progress_advantages(rewards, 2)
    assert [round(float(v.advantages[0]), 5) for v in views] == [round(a, 5) for a in expected]
