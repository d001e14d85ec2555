"""`POST /admin/update_weights`: the weights of another checkpoint of the same model, from a directory."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from unmask.checkpoints.checkpoint import load_model
from unmask.engine.llm import LLM
from unmask.json_files import parse_object
from unmask.server.errors import ApiError

MOST_VERSION = 2**63 - 1


def read_weights(text: bytes, llm: LLM) -> tuple[Mapping[str, Tensor], int | None]:
    """Return the weights that a body names, and their version, if it gives one.

    They are in memory next to the model's own until they are copied.

    Args:
        text: the body, `{"path": "directory of a checkpoint", "version": 3}`.
        llm: with the model that is served; its shapes are required.

    Raises:
        ApiError: naming the field at fault.
    """
    try:
        body = parse_object(text, "the body")
    except ValueError as error:
        raise ApiError(400, str(error), code="invalid_json") from None
    for name in body.keys() - {"path", "version"}:
        raise ApiError(400, f"{name}: no such field", name, "unknown_parameter")
    path, version = body.get("path"), body.get("version")
    if not isinstance(path, str):
        raise ApiError(400, "path: must be the directory of a checkpoint", "path", "invalid_value")
    is_version = type(version) is int and 0 <= version <= MOST_VERSION
    if version is not None and not is_version:
        raise ApiError(400, "version: must be a number of 64 bits", "version", "invalid_value")
    if not Path(path).is_dir():  # any other name would be looked for on the hub
        raise ApiError(400, f"path = {path}: there is no such directory", "path", "invalid_value")
    model, spec = llm.model, llm.model.spec
    try:
        loaded = load_model(path, model.device, model.dtype, spec.mask_id, spec.block_size)
    except ValueError as error:
        raise ApiError(400, str(error), "path", "invalid_value") from None
    wanted, given = (
        {name: tensor.shape for name, tensor in one.named_parameters(remove_duplicate=False)}
        for one in (model, loaded)
    )
    if wanted != given or loaded.spec != spec:
        message = f"path = {path}: another architecture than the model that is served"
        raise ApiError(400, message, "path", "invalid_value")
    return dict(loaded.named_parameters(remove_duplicate=False)), version
