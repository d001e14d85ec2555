"""Ids of pictures' vectors: in a prompt, in a table, in a pack."""

from dataclasses import replace

import torch

from tests.engine.pictures import CAT, DOG, prompt_with
from tests.engine.test_image_table import asks_with_pictures, by_engine, seeing_model
from unmask.diffusion.image_vectors import distinct_images, table_ids, table_starts
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import views_of_trajectory
from unmask.engine.scoring import score_views
from unmask.models.conventions import conventions_of


def test_each_picture_stands_once_in_a_table() -> None:
    images = distinct_images([DOG, CAT, DOG])
    assert images == (DOG, CAT)
    starts = table_starts(images)
    assert starts == {b"dog": 0, b"cat": 9}
    # A prompt with the cat, then the dog: its vectors 0..8 are rows 9..17 of the table.
    ids = torch.tensor([5, -1, -9, 7, -10, -18])
    assert table_ids(ids, (CAT, DOG), starts).tolist() == [5, -10, -18, 7, -1, -9]
    assert table_ids(ids.abs(), (), {}).tolist() == ids.abs().tolist()


def test_digests_depend_on_the_pictures_and_not_on_how_they_are_asked_for() -> None:
    cat, both = prompt_with((CAT, CAT), 3), prompt_with((CAT, DOG), 3)
    ends = range(1, len(cat.token_ids) + 1)
    first, second = cat.prefix_digests(ends), both.prefix_digests(ends)
    assert [a == b for a, b in zip(first, second, strict=True)] == [end <= 13 for end in ends]
    assert cat.prefix_digests((5, 20))[1] == cat.prefix_digests((20,))[0]
    assert len(set(first)) == len(first)


def test_packs_score_what_the_engine_saw() -> None:
    """Log-probabilities of engine and learner, with documents that share a prompt's pictures or differ in them."""
    for kind in ("blocks", "canvas"):
        model, _ = seeing_model(kind)
        asks = [(p, replace(s, max_tokens=8)) for p, s in asks_with_pictures() * 2]
        written = by_engine(model, asks)
        is_full = model.spec.is_full
        views = [views_of_trajectory(t, 1.0, is_full=is_full) for t in written]
        for budget in (64, 4096):
            packs = pack_views(views, conventions_of(model), budget)
            assert any(len(pack.images) == 2 for pack in packs) or budget == 64
            (scored,) = score_views(model, views, packs, [lambda scores: scores.logprobs])
            for look, found in zip(views, scored, strict=True):
                expected = look.behavior_logprobs.expand_as(found)
                torch.testing.assert_close(
                    found[look.target], expected[look.target], atol=1e-4, rtol=0
                )
