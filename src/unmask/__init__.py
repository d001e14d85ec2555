"""Post-train, evaluate and serve diffusion language models.

The public names are looked up when first used, so that `import unmask` and `unmask --help` do not
wait for torch.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if sys.platform == "win32":
    raise ImportError(
        "unmask runs on Linux and macOS, not on Windows, which has no fork, signals and file locks of POSIX. "
        "Install it in WSL 2, which is Linux (docs/install.md)"
    )

if TYPE_CHECKING:
    from unmask.checkpoints.checkpoint import load_model, save_model
    from unmask.engine.async_llm import AsyncLLM
    from unmask.engine.broken_responses import BrokenResponses
    from unmask.engine.llm import LLM
    from unmask.evaluation.grade import grade
    from unmask.sampling_params import SamplingParams

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "AsyncLLM",
    "BrokenResponses",
    "SamplingParams",
    "__version__",
    "grade",
    "load_model",
    "save_model",
]

_HOMES = {
    "AsyncLLM": "unmask.engine.async_llm",
    "BrokenResponses": "unmask.engine.broken_responses",
    "LLM": "unmask.engine.llm",
    "SamplingParams": "unmask.sampling_params",
    "grade": "unmask.evaluation.grade",
    "load_model": "unmask.checkpoints.checkpoint",
    "save_model": "unmask.checkpoints.checkpoint",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unmask' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next look-up does not come through here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
