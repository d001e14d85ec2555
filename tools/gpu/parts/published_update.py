"""The training step of TraceRL's own lengths at 1.7B; about 35 s, of which 20 are compilation."""

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.update import Case, outcome_of


def run(setting: Setting) -> Outcome:
    """Measure one trajectory of 784 + 2,000 tokens, the limits of the published configuration."""
    return outcome_of(setting, Case("1.7B", (784, 2000), rounds=3, share=1, memory_bar=1.0))


PART = Part(
    "published training step (re-implemented: benchmarks/published_rows.py), 1.7B, 784 + 2,000 tokens",
    "published",
    run,
    limit_s=75,
    is_default=False,
)
