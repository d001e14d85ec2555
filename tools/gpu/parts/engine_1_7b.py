"""The engine at SDAR-1.7B's shape; about 15 s: prefills of 123k tokens 1.5, graphs and Triton 7, ticks 5."""

from tools.gpu.decode import outcome_of
from tools.gpu.part import Outcome, Part, Setting


def run(setting: Setting) -> Outcome:
    """Measure decoding of 1, 16 and 128 sequences."""
    return outcome_of(setting, "1.7B")


PART = Part("engine, SDAR-1.7B shape, 1 / 16 / 128 sequences, 1k context", "speed", run, limit_s=60)
