"""Law 1 while requests come and go: arrivals and aborts between two ticks change no other request.

Each scene draws an engine that is small in some ways, requests of which most begin alike, and what
happens before each tick. Who stays to the end has what the reference sampler writes, and then every
page is free again.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch

from tests.engine.bits import assert_same, exact_dtype, unpriced
from tests.engine.models import KINDS, model_of
from tests.engine.writers import (
    Ask,
    by_reference,
    draw_params,
    prompt_of,
    results_of,
    trajectory_of,
)
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.engine.pages import num_pages
from unmask.engine.prefix_cache import PrefixHit, PrefixIndex, PrefixKey
from unmask.engine.request import resolve
from unmask.engine.scheduler import Scheduler
from unmask.engine.sequence_state import SequenceState
from unmask.models.attention import KEY_CHUNK
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory

# Pages are shared and given up for others under block-causal attention only.
NUM_SCENES = {kind: 10 if kind in ("blocks", "blocks, shifted") else 3 for kind in KINDS}
# Lengths of prompts: on either side of the least that is shared, of a page and of two; or such that
# all sequences want a second page at about the same time.
MIXED = (1, 5, 31, 33, 48, 64, 65, 96, 127, 128, 129)
CROWDED = (48, 52, 55, 58, 61)
BLOCKS = (None, None, 4, 4, 7, 16, 48, 70)


@dataclass(frozen=True)
class Scene:
    """Who asks, in order of arrival, and of which engine; `rng` draws when they come and go."""

    model: Model
    asks: Sequence[Ask]
    size: EngineParams
    rng: random.Random


@cache
def toy(kind: str) -> Model:
    """Return a model that often writes id 0, which is what an empty place is easily taken for."""
    model = model_of(kind, exact_dtype())
    with torch.no_grad():
        weight = model.head.projection.weight
        weight[[0, 5]] = weight[[5, 0]]
    return model


def draw_asks(rng: random.Random, model: Model) -> list[Ask]:
    """Draw requests; most prompts are beginnings of one text, in one of two block sizes."""
    text = [rng.randrange(model.spec.vocab_size) for _ in range(max(MIXED))]
    is_crowd = rng.random() < 0.3
    lengths = CROWDED if is_crowd else rng.sample(MIXED, 4)
    blocks = rng.sample(BLOCKS[:4] if is_crowd else BLOCKS, 2)
    shortest, longest = (30, 50) if is_crowd else rng.choice([(1, 4), (1, 20), (1, 40)])
    asks: list[Ask] = []
    for _ in range(rng.choice([4, 6, 8])):
        length = rng.choice(lengths)
        own = [rng.randrange(model.spec.vocab_size) for _ in range(length)]
        params = draw_params(
            rng,
            block_size=rng.choice(blocks),
            stop_token_ids=rng.choice([(), (), (), None, (2, 8, 13)]),
            max_tokens=rng.randrange(shortest, longest),
        )
        asks.append((text[:length] if rng.random() < 0.8 else own, params))
    return asks


def draw_size(rng: random.Random, model: Model, asks: Sequence[Ask]) -> EngineParams:
    """Draw an engine in which each request fits alone; every other cache has hardly room for two."""
    lengths = []
    for ids, params in asks:
        block = resolve(prompt_of(ids), params, model.spec).block_size
        assert block is not None
        lengths.append(len(ids) + params.max_tokens + block)
    least = KEY_CHUNK * num_pages(max(lengths))
    return EngineParams(
        max_sequences=rng.choice([1, 3, 256, 256, 256]),
        row_budget=rng.choice([None, 8, 50, 130]),
        cache_tokens=rng.choice([None, least, least + KEY_CHUNK, least + 3 * KEY_CHUNK]),
        fuses_commit=rng.random() < 0.7,
        shares_prefixes=rng.random() < 0.8,
        reads_late=rng.random() < 0.4,
    )


def draw_scene(kind: str, number: int) -> Scene:
    rng = random.Random(f"{kind} {number}")
    asks = draw_asks(rng, toy(kind))
    return Scene(toy(kind), asks, draw_size(rng, toy(kind), asks), rng)


def play(scene: Scene, engine: Engine) -> tuple[dict[int, Trajectory], Counter[str]]:
    """Run a scene to its end.

    Returns:
        What was written, by place in `scene.asks`; who was aborted is missing. And how often what
        the scenes are about happened.
    """
    rng, scheduler = scene.rng, engine._scheduler
    coming, alive = list(range(len(scene.asks)))[::-1], {}
    written: dict[int, Trajectory] = {}
    seen: Counter[str] = Counter()
    rate = rng.choice([0.2, 0.5, 0.9])
    while coming or not engine.is_idle:
        while coming and rng.random() < rate:
            ids, params = scene.asks[coming[-1]]
            alive[engine.submit(prompt_of(ids), params)] = coming.pop()
            seen["came while others ran"] += bool(scheduler.running)
        if alive and rng.random() < 0.03:
            leaving = rng.choice(list(alive))
            waits = any(request.id == leaving for request in scheduler.waiting)
            seen["left while waiting" if waits else "left while running"] += 1
            engine.abort(leaving)
            del alive[leaving]
        for number, result in results_of(engine.tick()).items():
            written[alive.pop(number)] = trajectory_of(result)  # a KeyError: it was aborted
    assert not alive
    return written, seen


def assert_all_free(engine: Engine) -> None:
    """Assert that nothing is held, once the prompts that were remembered are forgotten."""
    scheduler, pool = engine._scheduler, engine._pages
    assert not scheduler.running and not scheduler.waiting and not scheduler._being_fed
    scheduler.index.clear()
    assert sorted(pool._free) == list(range(1, pool.num_pages + 1))


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, number) for kind in KINDS for number in range(NUM_SCENES[kind])]
)
def test_trajectories_while_requests_come_and_go(kind: str, number: int) -> None:
    scene = draw_scene(kind, number)
    engine = Engine(scene.model, scene.size)
    written, _ = play(scene, engine)
    expected = [by_reference(scene.model, scene.asks[place]) for place in sorted(written)]
    results = [written[place] for place in sorted(written)]
    assert_same(unpriced(results), unpriced(expected))
    assert_all_free(engine)


def test_the_scenes_show_what_they_are_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a scene may hold happens in a few of them."""
    seen: Counter[str] = Counter()
    interrupt, find, grown = Scheduler._preempt, PrefixIndex.find, SequenceState.grown

    def noting_preempt(self: Scheduler, index: int) -> None:
        seen["interrupted"] += 1
        interrupt(self, index)

    def noting_find(self: PrefixIndex, opening: PrefixKey) -> PrefixHit:
        known = find(self, opening)
        seen["shared"] += known.length > 0
        return known

    def noting_grown(self: SequenceState, count: int, widths: Mapping[str, int]) -> SequenceState:
        is_wider = widths.get("stop_ids", 0) > self.stop_ids.shape[1]
        has_none = (self.stop_ids == -1).all(-1) & self.active
        seen["first stop tokens next to none"] += is_wider and bool(has_none.any())
        return grown(self, count, widths)

    monkeypatch.setattr(Scheduler, "_preempt", noting_preempt)
    monkeypatch.setattr(PrefixIndex, "find", noting_find)
    monkeypatch.setattr(SequenceState, "grown", noting_grown)
    for number in range(16):
        scene = draw_scene("blocks", number)
        seen += play(scene, Engine(scene.model, scene.size))[1]
    assert len(seen) == 6 and min(seen.values()) >= 2, seen


def test_new_stop_tokens_do_not_end_other_requests() -> None:
    """The columns of stop ids grow wider, and their padding ends no response."""
    model = toy("blocks")
    endless = SamplingParams(stop_token_ids=(), max_tokens=20, seed=1)
    asks: list[Ask] = [([5], endless), ([5], replace(endless, stop_token_ids=(7,)))]
    expected = [by_reference(model, ask) for ask in asks]
    assert 0 in expected[0].response_ids[4:]
    engine = Engine(model)
    engine.submit(prompt_of(asks[0][0]), asks[0][1])
    engine.tick()
    engine.submit(prompt_of(asks[1][0]), asks[1][1])
    finished = results_of(engine.collect())
    assert_same([trajectory_of(finished[number]) for number in (0, 1)], expected)


def test_an_aborted_request_writes_nothing_more() -> None:
    """Its page goes to one that grows, fast enough to pass the place it would write at."""
    model = toy("blocks")
    slow = SamplingParams(strategy="static", block_size=16, stop_token_ids=(), max_tokens=40)
    quick = replace(slow, block_size=4, denoising_steps=1, max_tokens=70)
    engine = Engine(model)
    leaving = engine.submit(prompt_of([5] * 20), slow)
    engine.submit(prompt_of([5] * 50), quick)
    engine.tick()
    (page,) = engine._scheduler.running[0].pages
    engine.abort(leaving)
    for _ in range(6):
        engine.tick()
    assert engine._scheduler.running[1].pages[1] == page
    (result,) = results_of(engine.collect()).values()
    assert_same([trajectory_of(result)], [by_reference(model, ([5] * 50, quick))])
