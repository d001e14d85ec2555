"""Files of a learner's state: masters and optimizer moments.

    optimizer.safetensors     of one process: all tensors
    optimizer/                of several ranks: each writes the rows that it holds, with torch's DCP and its
                              safetensors writer; a tensor that all ranks hold is written once

Either is read at any number of ranks, to the same bits; a rank reads the rows that it holds. Nothing is pickled:
this writer leaves out DCP's `.metadata`, and its reader finds the rows of a file in the file's header.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from unmask.checkpoints.tensor_files import save_tensors
from unmask.distributed.sharding import is_sharded, local
from unmask.distributed.world import AgreedError, World

if TYPE_CHECKING:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

# A rank copies the tensors of one file to host memory at a time, twice.
FILE_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class StateFormat:
    """How the states of learners are written.

    Attributes:
        policy: name of the policy's state in a checkpoint.
        critic: name of that of a value model with an optimizer of its own.
        write: tensors by name, and a path that does not exist; on several ranks a collective.
    """

    policy: str
    critic: str
    write: Callable[[Mapping[str, Tensor], Path], None]


def build_state_format(world: World) -> StateFormat:
    """Return the format that the ranks of a world write."""
    return ONE_FILE if world.size == 1 else SHARDS


def find_state(checkpoint: Path, is_critic: bool) -> Path:
    """Return the state of a learner in a checkpoint, in the format in which it was written."""
    whole, shards = ((f.critic if is_critic else f.policy) for f in (ONE_FILE, SHARDS))
    return checkpoint / (shards if (checkpoint / shards).is_dir() else whole)


def save_shards(tensors: Mapping[str, Tensor], directory: Path) -> None:
    """Write the tensors of all ranks, each the part that it holds: a collective.

    Args:
        tensors: the same names on every rank; sharded ones are DTensors, others are equal on all ranks.
        directory: on a disk that all ranks share.

    Raises:
        AgreedError: on every rank, if one of them cannot write.
    """
    # Imported here: 46 MiB and a second, which one process does not need.
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    # Sorted: which rank writes a tensor of all ranks follows from the order.
    tensors = dict(sorted(tensors.items()))
    sizes = accumulate(local(tensor).nbytes for tensor in tensors.values())
    files = {name: 1 + size // FILE_BYTES for name, size in zip(tensors, sizes, strict=True)}
    writer = HuggingFaceStorageWriter(str(directory), files, save_distributed=True)
    try:
        save(tensors, storage_writer=writer)
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        if isinstance(cause, OSError):
            raise AgreedError(f"rank {rank}: {cause.strerror or cause}") from error
        raise RuntimeError(f"rank {rank}, saving: {cause!r}") from error


ONE_FILE = StateFormat("optimizer.safetensors", "critic.safetensors", save_tensors)
SHARDS = StateFormat("optimizer", "critic_optimizer", save_shards)


def read_state(path: Path, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a learner's state; of the tensors with the shape of a sharded master, this rank's part.

    Not a collective: each rank reads the files by itself.

    Args:
        path: returned by `find_state`.
        masters: weights that the optimizer changes, by name: for their device and their sharding.

    Raises:
        ValueError: a part of a tensor is not in the files.
    """
    if path.is_file() and not any(map(is_sharded, masters.values())):
        return load_file(path)
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = _reader(path)
    tensors: dict[str, Tensor] = {}
    for name, stored in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(stored, TensorStorageMetadata)
        if sum(math.prod(chunk.sizes) for chunk in stored.chunks) != math.prod(stored.size):
            raise ValueError(f"a part of {name!r} is missing")
        master, dtype = masters.get(name.partition("/")[2]), stored.properties.dtype
        if master is not None and master.shape == stored.size:
            tensors[name] = torch.empty_like(master, dtype=dtype, requires_grad=False)
        else:  # a count of steps
            tensors[name] = torch.empty(stored.size, dtype=dtype)
    try:
        # It warns that it is not a collective.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            load(tensors, storage_reader=reader, no_dist=True)
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error
    return tensors


def _reader(path: Path) -> "HuggingFaceStorageReader":
    """Return DCP's reader of a directory of files, or of one file of a directory."""
    from torch.distributed.checkpoint.filesystem import FileSystem
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    class OneFile(FileSystem):
        """A directory without the files of other learners."""

        def ls(self, path: str | Path) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
            return [str(path)]

    reader = HuggingFaceStorageReader(str(path))
    if path.is_file():
        reader.fs = OneFile()
    return reader
