"""Alarms: warnings about a run that trains in vain.

Two faults ruin an RL run without stopping it. If engine and learner disagree on the log-probability of
the same token in the same view, the trained policy is not the one that wrote the responses. If all
answers to a prompt earn the same, their advantages are zero and nothing is learnt. Both are logged at
every step as 0 or 1, and printed once when they begin. Many steps in a row without anything to train on
end the run.
"""

from collections.abc import Mapping

import torch
from rich.console import Console

from unmask.configs.alarm import AlarmConfig
from unmask.trainers.master_weights import is_wide

EXACT_GAP, ROUNDED_GAP = 1e-3, 0.5


class Alarms:
    """Checks the metrics of each step against bounds."""

    def __init__(
        self, config: AlarmConfig, dtype: torch.dtype, is_batch_invariant: bool = False
    ) -> None:
        """Set the bounds.

        Args:
            config: bounds.
            dtype: number format of the weights, which decides what gap is rounding.
            is_batch_invariant: whether the model is, so that no gap is.
        """
        rounding = EXACT_GAP if is_wide(dtype) else ROUNDED_GAP
        self._gap = config.logprob_gap or (0.0 if is_batch_invariant else rounding)
        self._kept = config.groups_kept
        self._most_empty, self._num_empty = config.empty_steps, 0
        self._ringing: set[str] = set()
        self._console = Console(stderr=True)

    def check(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the alarms as metrics, and the bound on the gap; print the alarms that begin."""
        gap, kept = metrics.get("logprob_gap_max", 0.0), metrics["groups_kept"]
        found = {
            "alarm_logprob_gap": f"engine and learner differ by {gap:.2g} in a log-probability, "
            f"more than {self._gap:.2g} (alarm.logprob_gap)"
            if gap > self._gap
            else "",
            "alarm_diversity": f"only {kept:.0%} of the groups have anything to learn from, fewer "
            f"than {self._kept:.0%} (alarm.groups_kept): the answers to a prompt all earn the same"
            if kept < self._kept
            else "",
            "alarm_empty": "no group was left to train on, so there was no update (see filter.*)"
            if kept == 0
            else "",
        }
        self._num_empty = self._num_empty + 1 if kept == 0 else 0
        for name, sentence in found.items():
            if sentence and name not in self._ringing:
                self._console.print(f"alarm at step {step}: {sentence}", soft_wrap=True)
        self._ringing = {name for name, sentence in found.items() if sentence}
        rings = {name: float(bool(sentence)) for name, sentence in found.items()}
        return {**rings, "logprob_gap_bound": self._gap}

    def stop_if_stuck(self) -> None:
        """End a run that has had nothing to train on for too long.

        Raises:
            ValueError: after `alarm.empty_steps` such steps in a row; a resumed run counts anew.
        """
        if self._most_empty and self._num_empty >= self._most_empty:
            raise ValueError(
                f"alarm.empty_steps = {self._most_empty}: that many steps in a row had no group to "
                "train on. Widen filter.low and filter.high, or give filter.refill; look at `reward` "
                "in metrics.jsonl: if all answers earn the same, the task is too hard or too easy"
            )
