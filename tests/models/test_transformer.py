"""The root module: the meaning of its arguments, and changes that its outputs do not depend on."""

import pytest
import torch

from tests.models.toy import toy_model, toy_spec
from unmask.models.attention import plan_rows
from unmask.models.heads import Targets
from unmask.models.transformer import Model, block_causal, initialise, rotary_tables, rotate


def random_ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 39, shape, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_rows_of_a_batch_are_independent() -> None:
    model, ids = toy_model(), random_ids(3, 13)
    together = model.logits(ids)
    for row in range(3):
        torch.testing.assert_close(together[row], model.logits(ids[row : row + 1])[0])


@torch.no_grad()
def test_arguments_of_logits_broadcast() -> None:
    model, ids = toy_model(), random_ids(2, 10)
    positions, allowed = torch.arange(10), block_causal(10, 4)
    expected = model.logits(ids)
    for p in (positions, positions[None], positions.expand(2, 10)):
        for a in (None, allowed[None], allowed.expand(2, 10, 10)):
            assert model.logits(ids, p, a).equal(expected)


@torch.no_grad()
def test_a_row_without_keys_is_finite() -> None:
    allowed = torch.zeros(1, 10, 10, dtype=torch.bool)
    assert toy_model().logits(random_ids(1, 10), allowed=allowed).isfinite().all()


@torch.no_grad()
def test_attention_is_block_causal_and_relative() -> None:
    model, ids = toy_model().double(), random_ids(1, 12)
    logits = model.logits(ids)
    changed = ids.clone()
    changed[0, 8:] = 0
    assert model.logits(changed)[:, :8].equal(logits[:, :8])
    assert not model.logits(changed)[:, 8:].allclose(logits[:, 8:])
    torch.testing.assert_close(model.logits(ids, torch.arange(100, 112)), logits)


@torch.no_grad()
def test_only_scored_rows_come_out() -> None:
    model, ids = toy_model(), random_ids(16)
    attend, scored = plan_rows(block_causal(16, 4)[None], 16), torch.tensor([3, 0, 11])
    logits = model(ids, torch.arange(16), attend, scored)
    torch.testing.assert_close(logits, model.logits(ids[None])[0, scored])
    targets = Targets(ids[scored], torch.ones(3))
    scores = model(ids, torch.arange(16), attend, scored, targets)
    logits[:, 39] = -torch.inf  # the mask id
    expected = logits.log_softmax(-1).gather(1, ids[scored, None])[:, 0]
    torch.testing.assert_close(scores.logprobs, expected)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients: list[list[torch.Tensor]] = []
    for is_on in (False, True):
        model = toy_model()
        model.backbone.gradient_checkpointing = is_on
        model.logits(random_ids(2, 9)).log_softmax(-1)[..., 5].sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(toy_model().parameters()))
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain.equal(recomputed)


def test_rotation_is_the_complex_one() -> None:
    spec, positions = toy_spec(), torch.tensor([0, 1, 7, 1000])
    x = torch.randn(4, 2, 16, dtype=torch.float64)
    turned = rotate(x, rotary_tables(positions, spec, torch.float64))
    angles = positions[:, None] * 10000.0 ** (-torch.arange(8, dtype=torch.float64) / 8)
    expected = torch.complex(*x.chunk(2, -1)) * torch.exp(1j * angles)[:, None]
    torch.testing.assert_close(turned, torch.cat((expected.real, expected.imag), -1))


@pytest.mark.parametrize("is_tied", [False, True])
def test_fresh_weights_depend_on_the_seed_alone(is_tied: bool) -> None:
    models = [Model(toy_spec(is_tied=is_tied)) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        initialise(model, seed)
    first, same, other = (model.logits(random_ids(1, 8)) for model in models)
    assert first.equal(same) and not first.allclose(other)
    head, embedding = models[0].head.projection.weight, models[0].backbone.embedding.weight
    assert (head is embedding) == is_tied
