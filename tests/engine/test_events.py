"""Events: tokens of finished blocks, for requests that asked for them, and every request once at its end."""

from collections import defaultdict
from dataclasses import replace

import pytest

from tests.engine.writers import by_engine, prompt_of, some_asks
from tests.toy import toy_model
from unmask.engine.engine import Engine
from unmask.engine.events import Committed, Finished
from unmask.engine.options import EngineParams
from unmask.types import Trajectory


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("attention", ["block", "full"])
def test_committed_tokens_are_the_start_of_the_response(attention: str, late: bool) -> None:
    model = toy_model(attention=attention)
    asks = [(ids, replace(params, max_tokens=14)) for ids, params in some_asks(16, model=model)]
    engine = Engine(model, EngineParams(max_sequences=5, reads_late=late))
    for number, (ids, params) in enumerate(asks):
        engine.submit(prompt_of(ids), params, streams=number % 2 == 0)
    committed: dict[int, tuple[int, ...]] = defaultdict(tuple)
    finished: dict[int, Trajectory | ValueError] = {}
    while not engine.is_idle:
        for event in engine.tick():
            assert event.request_id not in finished, "no event follows the last"
            if isinstance(event, Committed):
                assert event.token_ids
                committed[event.request_id] += event.token_ids
            else:
                finished[event.request_id] = event.result
    assert [finished[number] for number in range(16)] == by_engine(model, asks)
    assert committed and not any(number % 2 for number in committed)
    for number, token_ids in committed.items():
        result = finished[number]
        assert isinstance(result, Trajectory)
        assert result.response_ids[: len(token_ids)] == token_ids


def test_a_request_that_does_not_stream_copies_nothing_to_the_host() -> None:
    engine = Engine(toy_model())
    ((ids, params),) = some_asks(1, max_tokens=12, stop_token_ids=())
    engine.submit(prompt_of(ids), params)
    while not engine.is_idle:
        events = engine.tick()
        assert not any(run.committed for run in engine._scheduler.running.values())
        assert all(isinstance(event, Finished) for event in events)
