"""Schedules of a run: its number of steps, what is due after a step, the learning rate. Pure functions."""

import math

from unmask.configs.optimizer import OptimizerSection


def learning_rate(config: OptimizerSection, step: int, total_steps: int) -> float:
    """Return the learning rate of step `step`, counted from 0, of a run of `total_steps`.

    It rises linearly over `warmup_steps`, the first step included, and then stays or falls to
    `final_lr_share`.
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    remaining = max(total_steps - config.warmup_steps - 1, 1)
    progress = min(max(step - config.warmup_steps, 0) / remaining, 1.0)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    share = {"constant": 1.0, "linear": 1.0 - progress, "cosine": cosine}[config.schedule]
    floor = config.final_lr_share  # 0 for `constant`, of which the config accepts no other
    return config.lr * warmup * (floor + (1.0 - floor) * share)


def num_steps(steps: int, epochs: float | None, num_items: int, batch_size: int) -> int:
    """Return the optimizer steps of a run: `steps`, or as many as `epochs` take; the last batch is filled up."""
    if epochs is None:
        return steps
    return max(1, math.ceil(round(epochs * num_items, 6) / batch_size))


def is_due(step: int, last_step: int, every: int) -> bool:
    """Return whether something is done after a step: every so many steps (0: never), and after the last."""
    return step == last_step or (every > 0 and step % every == 0)
