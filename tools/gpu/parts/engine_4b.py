"""The engine at SDAR-4B's shape; about 25 s: prefills of 123k tokens 3, graphs and Triton 10, ticks 8."""

from tools.gpu.decode import outcome_of
from tools.gpu.part import Outcome, Part, Setting


def run(setting: Setting) -> Outcome:
    """Measure decoding of 1, 16 and 128 sequences."""
    return outcome_of(setting, "4B")


PART = Part("engine, SDAR-4B shape, 1 / 16 / 128 sequences, 1k context", "speed", run, limit_s=75)
