"""Pictures in prompts: the engine against the reference sampler, and what is computed once."""

from dataclasses import replace

import pytest
import torch

from tests.engine.bits import assert_same, exact_dtype, unpriced
from tests.engine.models import KINDS
from tests.engine.pictures import CAT, DOG, prompt_with, seeing_model
from tests.engine.writers import results_of, trajectory_of
from unmask.acceptance.agreement import dense_logits
from unmask.diffusion.reference_sampler import sample
from unmask.engine import image_table
from unmask.engine.engine import Engine
from unmask.engine.image_table import ImageTable
from unmask.engine.options import EngineParams
from unmask.engine.request import resolve
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model, image_vectors
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, PromptImage, Trajectory

Ask = tuple[Prompt, SamplingParams]


def by_reference(model: Model, ask: Ask) -> Trajectory:
    prompt, params = ask[0], resolve(*ask, model.spec)
    assert params.block_size is not None
    vectors = image_vectors(model.backbone.vision, prompt.images)
    logits = dense_logits(model, params.block_size, vectors)
    return sample(prompt, params, logits, conventions_of(model))


def by_engine(
    model: Model, asks: list[Ask], params: EngineParams | None = None
) -> list[Trajectory]:
    engine = Engine(model, params)
    numbers = [engine.submit(*ask) for ask in asks]
    finished = results_of(engine.collect())
    return [trajectory_of(finished[number]) for number in numbers]


def asks_with_pictures() -> list[Ask]:
    """Return prompts with one picture, two, the same twice, and none, under several samplers."""
    images = [(CAT,), (DOG, CAT), (CAT, CAT), (), (DOG,), (CAT,)]
    return [
        (
            prompt_with(pictures, before=number % 3 + 1, seed=number),
            SamplingParams(max_tokens=9, temperature=1.0, threshold=0.3, seed=number),
        )
        for number, pictures in enumerate(images)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("params", [EngineParams(), EngineParams(row_budget=24, max_sequences=3)])
def test_the_engine_writes_what_the_reference_sampler_writes(
    kind: str, params: EngineParams
) -> None:
    model, _ = seeing_model(kind, exact_dtype())
    asks = asks_with_pictures()
    expected = [by_reference(model, ask) for ask in asks]
    assert_same(unpriced(by_engine(model, asks, params)), unpriced(expected))
    without = [(replace_pictures(prompt), sampling) for prompt, sampling in asks]
    assert [t.canvas_ids for t in by_engine(model, without)] != [t.canvas_ids for t in expected]


def replace_pictures(prompt: Prompt) -> Prompt:
    """Return the prompt with token 2 in place of each vector."""
    return Prompt("toy", 0, (), tuple(max(2, token) for token in prompt.token_ids))


def test_a_picture_is_encoded_once_for_all_prompts() -> None:
    model, encoded = seeing_model("blocks")
    engine = Engine(model)
    for ask in asks_with_pictures() * 3:
        engine.submit(*ask)
    assert not encoded, "requests that wait take no memory"
    list(engine.collect())
    assert encoded == {b"cat": 1, b"dog": 1}


def test_equal_placeholders_of_other_pictures_are_never_shared() -> None:
    """Long enough for pages to be shared: a group over one picture shares them, two pictures do not."""
    model, _ = seeing_model("blocks", exact_dtype())
    cat, dog = (prompt_with((image,) * 9, before=4) for image in (CAT, DOG))
    assert cat.token_ids == dog.token_ids
    assert cat.digest != dog.digest
    sampling = SamplingParams(max_tokens=4, temperature=1.0)
    asks = [(prompt, sampling) for prompt in (cat, dog, cat, dog)]
    expected = [by_reference(model, ask) for ask in asks]
    found = by_engine(model, asks)
    assert_same(unpriced(found), unpriced(expected))
    assert found[0] != found[1]
    alone = by_engine(model, asks, EngineParams(shares_prefixes=False))
    assert sum(t.num_forwards for t in found) <= sum(t.num_forwards for t in alone)


def test_a_model_without_sight_refuses_a_picture() -> None:
    model, _ = seeing_model("blocks")
    model.backbone.vision = None
    with pytest.raises(ValueError, match="holds pictures, but this model reads text only"):
        Engine(model).submit(prompt_with((CAT,), 2), SamplingParams(max_tokens=4))


def test_an_id_without_a_vector_is_refused() -> None:
    model, _ = seeing_model("blocks")
    prompt = Prompt("toy", 0, (), (3, -1, -10), images=(CAT,))
    with pytest.raises(ValueError, match=r"token id -10 of the prompt is outside -9\.\.23"):
        Engine(model).submit(prompt, SamplingParams(max_tokens=4))


def test_new_weights_keep_no_vectors_of_the_old_ones() -> None:
    model, encoded = seeing_model("blocks")
    engine = Engine(model)
    for _ in range(2):
        engine.submit(*asks_with_pictures()[0])
        list(engine.collect())
        engine.update_weights()
    assert encoded == {b"cat": 2}
    assert torch.isfinite(model.backbone.embedding.weight).all()


def test_new_weights_of_requests_without_pictures_after_some_with() -> None:
    model, encoded = seeing_model("blocks")
    engine = Engine(model)
    engine.submit(*asks_with_pictures()[0])
    list(engine.collect())
    engine.update_weights()
    prompt, sampling = asks_with_pictures()[3]
    assert not prompt.images
    number = engine.submit(prompt, sampling)
    engine.tick()
    engine.update_weights(continues=True)
    assert trajectory_of(results_of(engine.collect())[number]).policy_version == 2
    assert encoded == {b"cat": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_few_pictures_after_many_and_new_weights(kind: str) -> None:
    """Padding rows of a pass hold the first id of an earlier request, beyond the pictures of now."""
    model, _ = seeing_model(kind, exact_dtype())
    engine = Engine(model, EngineParams(max_sequences=2))
    sampling = asks_with_pictures()[0][1]
    for picture in (CAT, DOG):
        engine.submit(prompt_with((picture,), before=0), sampling)
    list(engine.collect())
    engine.update_weights()
    ask = (prompt_with((CAT,), before=0, seed=1), sampling)
    number = engine.submit(*ask)
    found = replace(trajectory_of(results_of(engine.collect())[number]), policy_version=0)
    assert_same(unpriced([found]), unpriced([by_reference(model, ask)]))


def test_rows_that_no_request_reads_are_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is never idle: the table is as large as what runs at a time, and the limit."""
    model, _ = seeing_model("blocks", exact_dtype())
    row_bytes = model.spec.width * exact_dtype().itemsize
    monkeypatch.setattr(image_table, "MOST_BYTES", 20 * row_bytes)
    engine, sampling = Engine(model), SamplingParams(max_tokens=9, temperature=1.0, threshold=0.3)
    images = [PromptImage(bytes([number]), 9 - number % 3) for number in range(48)]
    asks = [(prompt_with((CAT, one), number % 5), sampling) for number, one in enumerate(images)]
    found: dict[int, Trajectory | ValueError] = {}
    for ask in asks:
        engine.submit(*ask)
        for _ in range(2):
            found |= results_of(engine.tick())
        assert not engine.is_idle
    found |= results_of(engine.collect())
    vectors = engine._images.vectors
    assert vectors is not None and len(vectors) < sum(image.count for image in images) / 2
    sampled = range(0, 48, 5)  # the reference sampler is slow
    expected = [by_reference(model, asks[number]) for number in sampled]
    written = [trajectory_of(found[number]) for number in sampled]
    assert_same(unpriced(written), unpriced(expected))


def test_rows_are_renewed_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_table, "MOST_BYTES", 0)
    model, _ = seeing_model("blocks")
    images = [PromptImage(bytes([number]), count) for number, count in enumerate((9, 4, 4, 5))]
    first, small, next_small, last = (prompt_with((image,), 2) for image in images)
    table = ImageTable()
    table.add(first, model, lambda: ())
    table.add(small, model, lambda: (first,))
    table.add(next_small, model, lambda: (small,))  # in the place of the first one
    ids = table.add(last, model, lambda: (small, next_small))  # behind it
    assert ids and table.vectors is not None
    assert sorted(-1 - token for token in ids if token < 0) == [4, 5, 6, 7, 8]
    before = table.vectors[:13].clone()
    table.vectors.zero_()
    table.renew(model, is_idle=False)
    assert torch.equal(table.vectors[:13], before) and before.any(dim=1).all()
    table.renew(model, is_idle=True)
    table.renew(model, is_idle=False)  # with text alone
