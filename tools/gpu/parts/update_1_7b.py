"""The TraceRL update at 1.7B; about 45 s: compilation 20, six passes of rows 15, four packs 5."""

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.update import Case, outcome_of


def run(setting: Setting) -> Outcome:
    """Measure one trajectory of 1,024 + 8,192 tokens."""
    return outcome_of(setting, Case("1.7B", (1024, 8192), rounds=2, share=2, bar=8.0))


PART = Part(
    "TraceRL update, 1.7B shape, 1,024 + 8,192 tokens: packed against padded rows",
    "speed",
    run,
    limit_s=100,
)
