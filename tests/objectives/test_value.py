"""The critic's arithmetic: the formulas in a naive loop, the two identities, and the clipped loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unmask.objectives.value import (
    advantage_variances,
    clipped_value_loss,
    explained_variance,
    is_value_clipped,
    number_steps,
    rewards_on_last_step,
    step_returns,
    token_returns_and_advantages,
)

NUMBER = st.floats(-3, 3, allow_subnormal=False)
SHARE = st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0])


def naive(
    values: list[float], rewards: list[float], steps: list[int], gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """Return one response's returns and advantages, straight from the formulas."""
    members = {s: [j for j, t in enumerate(steps) if t == s] for s in set(steps) if s > 0}
    next_return = next_value = next_advantage = 0.0
    returns, advantages = [0.0] * len(steps), [0.0] * len(steps)
    for step in sorted(members, reverse=True):
        tokens = members[step]
        for j in tokens:
            returns[j] = rewards[j] + gamma * next_return
            beyond = gamma * next_value + gamma * lam * next_advantage
            advantages[j] = rewards[j] - values[j] + beyond
        reward = sum(rewards[j] for j in tokens) / len(tokens)
        value = sum(values[j] for j in tokens) / len(tokens)
        error = reward - value + gamma * next_value
        next_advantage = error + gamma * lam * next_advantage
        next_return = reward + gamma * next_return
        next_value = value
    return returns, advantages


@st.composite
def responses(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Draw values, process rewards and step maps of a batch, with ties, gaps and untrained slots."""
    rows, slots = draw(st.integers(1, 4)), draw(st.integers(1, 12))

    def grid(element: st.SearchStrategy[float]) -> Tensor:
        row = st.lists(element, min_size=slots, max_size=slots)
        drawn = draw(st.lists(row, min_size=rows, max_size=rows))
        return torch.tensor(drawn, dtype=torch.float64)

    return grid(NUMBER), grid(NUMBER), grid(st.integers(0, 15)).long()


@given(batch=responses(), gamma=SHARE, lam=SHARE)
def test_a_batch_is_the_naive_loop(
    batch: tuple[Tensor, Tensor, Tensor], gamma: float, lam: float
) -> None:
    found = token_returns_and_advantages(*batch, gamma, lam)
    rows = [naive(*row, gamma, lam) for row in zip(*(x.tolist() for x in batch), strict=True)]
    for tensor, expected in zip(found, zip(*rows, strict=True), strict=True):
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-12)


@given(batch=responses())
def test_without_discount_the_advantage_is_return_minus_value(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    values, _, steps = batch
    returns, advantages = token_returns_and_advantages(*batch, 1.0, 1.0)
    expected = (returns - values).masked_fill(steps == 0, 0)
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-12)


@given(batch=responses(), gamma=SHARE)
def test_at_lambda_0_the_advantage_is_the_one_step_error(
    batch: tuple[Tensor, Tensor, Tensor], gamma: float
) -> None:
    values, rewards, steps = batch
    _, advantages = token_returns_and_advantages(*batch, gamma, 0.0)
    for b in range(len(steps)):
        for j in steps[b].nonzero()[:, 0].tolist():
            later = steps[b][steps[b] > steps[b, j]]
            after = values[b][steps[b] == later.min()].mean() if len(later) else 0.0
            expected = float(rewards[b, j] - values[b, j] + gamma * after)
            assert float(advantages[b, j]) == pytest.approx(expected, abs=1e-12)


@given(batch=responses())
def test_a_reward_per_response_is_every_tokens_return(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    values, rewards, steps = batch
    laid = rewards_on_last_step(rewards[:, 0], steps)
    returns, _ = token_returns_and_advantages(values, laid, steps, 1.0, 1.0)
    expected = rewards[:, :1].expand_as(steps).masked_fill(steps == 0, 0)
    torch.testing.assert_close(returns, expected, rtol=0, atol=1e-12)


def test_labels_of_steps_matter_by_their_order_alone() -> None:
    steps = torch.tensor([[3, 1, 1, 2, 0, 7, 7], [0, 0, 5, 0, 0, 0, 0]])
    assert number_steps(steps).tolist() == [[2, 0, 0, 1, -1, 3, 3], [-1, -1, 0, -1, -1, -1, -1]]


def test_a_worked_example() -> None:
    """Two tokens, then one; the second step earns 1."""
    values = torch.tensor([[0.2, 0.4, 0.5]], dtype=torch.float64)
    rewards = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    steps = torch.tensor([[1, 1, 2]])
    returns, advantages = token_returns_and_advantages(values, rewards, steps, 0.5, 0.5)
    assert returns.tolist() == [[0.5, 0.5, 1.0]]
    # What follows the first step: half of V* = 0.5, and a quarter of A* = 1 - 0.5.
    torch.testing.assert_close(advantages, torch.tensor([[0.175, -0.025, 0.5]]).double())
    assert step_returns(torch.tensor([[0.0, 1.0, 2.0]]), 0.5).tolist() == [[1.0, 2.0, 2.0]]


def test_where_nothing_is_trained_all_is_zero() -> None:
    zeros = torch.zeros(2, 3, dtype=torch.int64)
    noise = torch.full((2, 3), torch.nan)
    for found in token_returns_and_advantages(noise, noise, zeros, 1.0, 1.0):
        assert not found.any()


# value, old value, return -> loss, derivative by the value, clipped
CASES = [
    (0.5, 0.5, 1.0, 0.125, -0.5, False),
    (0.65, 0.5, 1.0, 0.5 * 0.35**2, -0.35, False),  # moved less than eps
    (0.9, 0.5, 1.0, 0.5 * 0.3**2, 0.0, True),  # moved there already: counts as 0.7
    (0.1, 0.5, 1.0, 0.5 * 0.9**2, -0.9, False),  # moved away: pulled back in full
    (1.6, 0.5, 1.0, 0.5 * 0.6**2, 0.6, False),  # moved past it
]


def test_the_clipped_loss_and_its_gradient() -> None:
    columns = [torch.tensor(c, dtype=torch.float64) for c in zip(*CASES, strict=True)]
    values, old, returns, losses, slopes, clipped = columns
    values.requires_grad_()
    loss = clipped_value_loss(values, old, returns, 0.2)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), losses)
    assert values.grad is not None
    torch.testing.assert_close(values.grad, slopes)
    assert is_value_clipped(values, old, returns, 0.2).tolist() == clipped.bool().tolist()


def test_explained_variance_of_perfect_useless_and_harmful_critics() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns + 5, returns) == pytest.approx(1)
    assert explained_variance(torch.zeros(3), returns) == pytest.approx(0)
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(3)) == 0


def test_variances_with_the_critic_and_without() -> None:
    returns = torch.tensor([0.0, 0.0, 2.0, 2.0])
    assert advantage_variances(returns / 2, returns) == (0.25, 1.0)
