"""Safetensors files with the permissions of any new file.

The safetensors package makes its files readable by their owner alone; a model on a shared disk has more
readers.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a file with the permissions that the umask gives."""
    save_file(dict(tensors), path, metadata={"format": "pt"})
    mask = os.umask(0)  # the only way to read it is to set it
    os.umask(mask)
    path.chmod(0o666 & ~mask)
