"""What the state says of a sequence that ended."""

from dataclasses import replace

import torch

from tests.engine.states import MASK, ask, opened, request_of
from tests.toy import SPEC
from unmask.engine.finished import read_finished
from unmask.types import Trajectory


def test_a_canvas_ends_with_the_block_it_was_left_in() -> None:
    asks = [ask(6), ask(3, max_tokens=20)]
    slots = opened(*asks)
    slots.set(
        start=torch.tensor([8, 4]),
        num_response=torch.tensor([3, 2]),
        is_stop=torch.tensor([True, False]),
        forwards=torch.tensor([4, 5]),
    )
    slots.tokens[0, 6:9] = torch.tensor([7, 8, 9])
    slots.step_map[0, 6:9] = torch.tensor([1, 2, 3])
    slots.logprobs[0, 6:9] = -1.5
    requests = [request_of(n, one) for n, one in enumerate(asks)]
    first, second = read_finished(slots, [0, 1], requests, 3)
    assert isinstance(first, Trajectory) and isinstance(second, Trajectory)
    assert first.canvas_ids == (7, 8, 9, MASK, MASK, MASK) and first.response_ids == (7, 8, 9)
    assert first.step_map == (1, 2, 3, 0, 0, 0)
    assert first.behavior_logprobs == (-1.5,) * 3 + (0,) * 3
    assert (first.finish, first.num_forwards, first.policy_version) == ("stop", 4, 3)
    assert (second.finish, len(second.canvas_ids)) == ("length", 5)


def test_under_full_attention_the_canvas_is_what_was_asked_for() -> None:
    spec = replace(SPEC, attention="full")
    slots = opened(ask(3, max_tokens=10), spec=spec)
    slots.set(num_response=torch.tensor([2]))
    request = request_of(0, ask(3, max_tokens=10), spec)
    (one,) = read_finished(slots, [0], [request], 0)
    assert isinstance(one, Trajectory) and len(one.canvas_ids) == 10


def test_numbers_that_are_none_are_an_error_that_names_the_request() -> None:
    slots = opened(ask(3), ask(3))
    slots.set(num_response=torch.tensor([4, -1]))
    slots.step_map[1, 3] = 1
    requests = [request_of(n, ask(3)) for n in (5, 6)]
    fine, broken = read_finished(slots, [0, 1], requests, 0)
    assert isinstance(fine, Trajectory) and isinstance(broken, ValueError)
    assert str(broken).startswith("request 6: the model's logits are not numbers")


def test_nothing_finished_is_nothing_read() -> None:
    assert read_finished(opened(ask(3)), [], [], 0) == []
