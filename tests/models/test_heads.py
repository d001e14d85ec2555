"""One definition of a log-probability, chunked or not."""

import pytest
import torch
from torch import Tensor

from tests.models.toy import toy_spec
from unmask.models import heads
from unmask.models.heads import (
    LanguageHead,
    MostLikely,
    RMSNorm,
    Scores,
    Targets,
    ValueHead,
    drawable_ids,
)


@pytest.fixture
def head() -> LanguageHead:
    torch.manual_seed(0)
    return LanguageHead(toy_spec(num_drawable=30, mask_id=7)).double()


def inputs(count: int) -> tuple[Tensor, Targets]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(count, 32, generator=generator, dtype=torch.float64)
    ids = torch.randint(8, 30, (count,), generator=generator)
    temperatures = torch.rand(count, generator=generator, dtype=torch.float64) + 0.5
    return hidden, Targets(ids, temperatures)


def test_scores_are_over_what_may_be_drawn(head: LanguageHead) -> None:
    hidden, targets = inputs(5)
    scores = head(hidden, targets)
    drawable = [i for i in range(30) if i != 7]
    logits = head(hidden, None)[:, drawable] / targets.temperatures[:, None]
    distribution = torch.distributions.Categorical(logits=logits)
    picked = torch.tensor([drawable.index(i) for i in targets.ids.tolist()])
    torch.testing.assert_close(scores.logprobs, distribution.log_prob(picked))
    torch.testing.assert_close(scores.entropy, distribution.entropy())
    assert scores.logprobs.requires_grad and not scores.entropy.requires_grad


@pytest.mark.parametrize("rows", [1, 4, 10])
def test_chunks_change_nothing(
    head: LanguageHead, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score() -> tuple[Scores, list[Tensor]]:
        hidden, targets = inputs(10)
        hidden.requires_grad_()
        scores = head(hidden, targets)
        loss = (scores.logprobs * torch.arange(1.0, 11.0)).sum()
        return scores, list(torch.autograd.grad(loss, (hidden, head.projection.weight)))

    whole, whole_gradients = score()
    monkeypatch.setitem(heads.CHUNK_ELEMENTS, "cpu", rows * 40)
    chunked, chunked_gradients = score()
    torch.testing.assert_close(chunked.logprobs, whole.logprobs)
    torch.testing.assert_close(chunked.entropy, whole.entropy)
    torch.testing.assert_close(chunked_gradients, whole_gradients)


@pytest.mark.parametrize("rows", [1, 4, 10])
def test_several_tokens_of_a_row_are_scored_as_one_at_a_time(
    head: LanguageHead, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, targets = inputs(10)
    ids = torch.stack((targets.ids, targets.ids.flip(0), torch.full_like(targets.ids, 9)), 1)
    expected = [head(hidden, Targets(column, targets.temperatures)).logprobs for column in ids.T]
    monkeypatch.setitem(heads.CHUNK_ELEMENTS, "cpu", rows * 40)
    scores = head(hidden, Targets(ids, targets.temperatures))
    torch.testing.assert_close(scores.logprobs, torch.stack(expected, 1))
    assert scores.entropy.shape == (10,)


@pytest.mark.parametrize("rows", [1, 4, 10])
def test_the_most_likely_tokens_of_a_row_may_be_drawn_and_have_its_highest_scores(
    head: LanguageHead, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, targets = inputs(10)
    all_ids = torch.arange(40).expand(10, 40)
    logprobs = head(hidden, Targets(all_ids, targets.temperatures)).logprobs
    monkeypatch.setitem(heads.CHUNK_ELEMENTS, "cpu", rows * 40)
    top = head(hidden, MostLikely(targets, 5))
    torch.testing.assert_close(top.logprobs, logprobs.sort(descending=True).values[:, :5])
    torch.testing.assert_close(logprobs.gather(1, top.ids), top.logprobs)
    assert not top.logprobs.requires_grad
    assert set(top.ids.flatten().tolist()) <= set(range(30)) - {7}


def test_logits_are_raw_and_at_least_fp32() -> None:
    head = LanguageHead(toy_spec(num_drawable=30)).bfloat16()
    hidden = torch.randn(3, 32, dtype=torch.bfloat16)
    assert head(hidden, None).dtype == torch.float32
    assert head(hidden, None).isfinite().all()


def test_drawable_ids() -> None:
    assert drawable_ids(toy_spec(num_drawable=4, mask_id=2)).nonzero().flatten().tolist() == [
        0,
        1,
        3,
    ]
    assert drawable_ids(toy_spec(num_drawable=4, mask_id=None)).sum() == 4


def test_rms_norm_is_the_formula() -> None:
    norm = RMSNorm(6, 1e-6).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(4, 6, dtype=torch.float64)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_rms_norm_rounds_once(dtype: torch.dtype) -> None:
    """Forward and backward have the bits of the norm in fp32, converted at its ends."""
    norm = RMSNorm(48, 1e-6)
    torch.nn.init.normal_(norm.weight, 1, 0.1)
    norm = norm.to(dtype)
    x, out = (torch.randn(9, 4, 48).mul(3).to(dtype) for _ in range(2))
    wide = RMSNorm(48, 1e-6)
    wide.load_state_dict(norm.state_dict())
    own, other = x.clone().requires_grad_(), x.float().requires_grad_()
    y, expected = norm(own), wide(other).to(dtype)
    y.backward(out)
    expected.backward(out)
    assert own.grad is not None and other.grad is not None
    assert norm.weight.grad is not None and wide.weight.grad is not None
    assert torch.equal(y, expected)
    assert torch.equal(own.grad, other.grad.to(dtype))
    assert torch.equal(norm.weight.grad, wide.weight.grad.to(dtype))


def test_a_value_is_one_product_and_starts_at_zero() -> None:
    hidden, _ = inputs(5)
    head = ValueHead(toy_spec()).double()
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    assert head(hidden).tolist() == [0.0] * 5
    torch.nn.init.normal_(head.weight)
    torch.testing.assert_close(head(hidden), (hidden * head.weight[0]).sum(-1))


def test_values_are_at_least_fp32() -> None:
    head = ValueHead(toy_spec()).bfloat16()
    torch.nn.init.normal_(head.weight)
    hidden = torch.randn(3, 32, dtype=torch.bfloat16)
    found = head(hidden)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hidden.float() @ head.weight[0].float())
