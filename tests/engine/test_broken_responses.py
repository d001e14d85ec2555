"""A batch of which some responses could not be written."""

from typing import Any, cast

import pytest

from unmask.engine.broken_responses import BrokenResponses, require_whole
from unmask.engine.generation import Generation
from unmask.types import Prompt, Trajectory

PROMPTS = [Prompt("toy", uid, ()) for uid in (4, 4, 7)]
WRITTEN = cast(Trajectory, "a trajectory")


def generation(trajectory: Trajectory) -> Generation:
    return cast(Generation, f"generation of {trajectory}")


def test_a_whole_batch_is_returned() -> None:
    assert require_whole(PROMPTS, [WRITTEN] * 3, generation) == [WRITTEN] * 3


def test_an_error_names_its_prompts_once_and_carries_the_others() -> None:
    results: list[Any] = [ValueError("not finite"), ValueError("later"), WRITTEN]
    message = r"2 of 3 responses could not be written \(toy prompt 4\): not finite; the others"
    with pytest.raises(BrokenResponses, match=message) as caught:
        require_whole(PROMPTS, results, generation)
    assert caught.value.errors.keys() == {0, 1}
    assert caught.value.trajectories == [None, None, WRITTEN]
    assert caught.value.generations == [None, None, generation(WRITTEN)]
