"""SFT at 1.7B; about 25 s: compilation 15, eight steps of 33k tokens 8. Peak about 75 GB without checkpointing."""

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.train import outcome_of


def run(setting: Setting) -> Outcome:
    """Measure optimizer steps of four packs of 8,192 tokens, the default."""
    return outcome_of(setting, "1.7B", budget=8192, bar=0.45)


PART = Part("SFT step, 1.7B shape, GSM8K-like lengths, packed", "speed", run, limit_s=75)
