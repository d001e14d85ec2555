"""Learning-rate schedules: pure functions of the step."""

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
