"""The value objective: returns, advantages and the loss of a value for each token (TraceRL's critic).

The critic reads a value V_j at the position of token j in the state from which j was about to be
revealed. Tokens revealed together make one denoising step t = 1 .. S, counted over the whole
response; T_t are its tokens. With step means r*_t = mean r_j and V*_t = mean V_j over T_t,

    R*_t = r*_t + gamma R*_{t+1}                                step return
    A*_t = r*_t - V*_t + gamma V*_{t+1} + gamma lam A*_{t+1}    step advantage

and a token answers for itself within its step, for the steps' means beyond it:

    R_j = r_j + gamma R*_{t+1}
    A_j = r_j - V_j + gamma V*_{t+1} + gamma lam A*_{t+1}

(TraceRL, arXiv 2509.06949). At gamma = lam = 1 this is A = R - V; at lam = 0 it is the one-step
error r - V + gamma V*. Everything past the last step is zero. The loss is PPO's clipped one,

    L = max((V - R)^2, (V_old + clip(V - V_old, -eps, eps) - R)^2) / 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def number_steps(steps: Tensor) -> Tensor:
    """Number the denoising steps of each response from 0, in the order of their labels.

    Args:
        steps: `(B, C)` integers; equal ones are one step, the lower is earlier; 0 where a
            position is not trained.

    Returns:
        `(B, C)` integers, -1 where a position is not trained.
    """
    ordered, order = steps.sort(-1)
    is_first = F.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True) & (ordered > 0)
    return torch.empty_like(order).scatter(1, order, is_first.long().cumsum(-1) - 1)


def step_means(tokens: Tensor, numbers: Tensor) -> Tensor:
    """Return the mean `(B, S)` of `tokens (B, C)` over each step of `numbers`; 0 past a response's last.

    Args:
        tokens: `(B, C)`.
        numbers: `(B, C)`, what `number_steps` returned.
    """
    place = numbers + 1  # (B, C); column 0 takes the positions that are not trained
    sums = tokens.new_zeros(tokens.shape[0], int(place.max()) + 1)
    counts = sums.scatter_add(1, place, torch.ones_like(tokens))
    return (sums.scatter_add(1, place, tokens) / counts.clamp(min=1))[:, 1:]


def step_returns(rewards: Tensor, gamma: float) -> Tensor:
    """Return `R*_t = r*_t + gamma R*_{t+1}`.

    Args:
        rewards: `(B, S)` reward of each step.
        gamma: discount per denoising step.

    Returns:
        `(B, S)`.
    """
    returns = torch.empty_like(rewards)
    running = rewards.new_zeros(rewards.shape[0])
    for step in range(rewards.shape[1] - 1, -1, -1):
        running = rewards[:, step] + gamma * running
        returns[:, step] = running
    return returns


def token_returns_and_advantages(
    values: Tensor, rewards: Tensor, steps: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Return the return and the advantage of each token.

    Args:
        values: `(B, C)` value of each position, read just before it was revealed.
        rewards: `(B, C)` reward of each token.
        steps: `(B, C)` denoising step of each position, 0 where it is not trained; see `number_steps`.
        gamma: discount per denoising step.
        lam: how far an advantage looks before it trusts the values; 1 is to the end.

    Returns:
        Returns and advantages, both `(B, C)`; 0 where a position is not trained.
    """
    numbers = number_steps(steps)
    is_trained = numbers >= 0
    values, rewards = (x.masked_fill(~is_trained, 0) for x in (values, rewards))
    step_rewards, step_values = step_means(rewards, numbers), step_means(values, numbers)

    def beyond(per_step: Tensor) -> Tensor:
        """Return for each token the number (B, C) of the step after its own; 0 past the last step."""
        return F.pad(per_step, (0, 1)).gather(1, numbers.clamp(min=0) + is_trained.long())

    errors = step_rewards - step_values + gamma * F.pad(step_values, (0, 1))[:, 1:]
    step_advantages = step_returns(errors, gamma * lam)
    returns = rewards + gamma * beyond(step_returns(step_rewards, gamma))
    advantages = rewards - values + gamma * beyond(step_values)
    advantages = advantages + gamma * lam * beyond(step_advantages)
    return returns.masked_fill(~is_trained, 0), advantages.masked_fill(~is_trained, 0)


def rewards_on_last_step(rewards: Tensor, steps: Tensor) -> Tensor:
    """Lay one reward per response on every token of its last denoising step, as published.

    Args:
        rewards: `(B,)`.
        steps: `(B, C)`, 0 where a position is not trained.

    Returns:
        `(B, C)`, 0 elsewhere.
    """
    is_last = (steps == steps.amax(-1, keepdim=True)) & (steps > 0)
    return torch.where(is_last, rewards[:, None], 0)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, eps: float) -> Tensor:
    """Return the loss `(S,)` of values that may move `eps` from the old ones and gain by it.

    Args:
        values: `(S,)` of the critic being trained.
        old_values: `(S,)` of the critic that starts the step.
        returns: `(S,)` what they should have been.
        eps: how far a value may move before it stops counting.
    """
    near = old_values + (values - old_values).clamp(-eps, eps)
    return 0.5 * torch.maximum((values - returns).square(), (near - returns).square())


def is_value_clipped(values: Tensor, old_values: Tensor, returns: Tensor, eps: float) -> Tensor:
    """Return `(S,)` bool: the values whose loss has no gradient because they moved `eps` already."""
    near = old_values + (values - old_values).clamp(-eps, eps)
    is_far = (values - old_values).abs() > eps
    return is_far & ((near - returns).square() > (values - returns).square())


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """Return `1 - Var(returns - values) / Var(returns)` over `(S,)`; 0 where nothing varies.

    1 is a perfect critic, 0 one no better than a constant, and below 0 it does harm.
    """
    variance = float(returns.double().var(correction=0))
    left = float((returns.double() - values.double()).var(correction=0))
    return 1 - left / variance if variance > 0 else 0.0


def advantage_variances(advantages: Tensor, returns: Tensor) -> tuple[float, float]:
    """Return the variance of the advantages `(S,)` with the critic, and without it: that of the returns."""
    with_critic, without = (float(x.double().var(correction=0)) for x in (advantages, returns))
    return with_critic, without
