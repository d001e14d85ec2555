"""Safetensors files that others may read wherever they may read what stands beside them.

The package writes its files for their owner alone; a model on a shared disk is for more.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a file, readable as any new file is here."""
    save_file(dict(tensors), path, metadata={"format": "pt"})
    mask = os.umask(0)  # there is no other way to ask
    os.umask(mask)
    path.chmod(0o666 & ~mask)
