"""The TraceRL update at 8B; about 80 s: compilation 20, four passes of rows 30, four packs 20.

All 36 layers: weights and gradients in bf16 take 33 GB. The optimizer's fp32 state, another 130 GB, does not fit
one card and is not part of the comparison.
"""

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.update import Case, outcome_of


def run(setting: Setting) -> Outcome:
    """Measure one trajectory of 1,024 + 8,192 tokens."""
    return outcome_of(setting, Case("8B", (1024, 8192), rounds=2, share=4, bar=6.0))


PART = Part(
    "TraceRL update, 8B shape, 1,024 + 8,192 tokens, no optimizer: packed against padded rows",
    "speed",
    run,
    limit_s=150,
    is_default=False,
)
