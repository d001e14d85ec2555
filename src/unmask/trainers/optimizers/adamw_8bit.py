"""`optimizer.kind = "adamw_8bit"`: AdamW of torchao, with moments in 8 bits (arXiv 2110.02861).

A moment of at least 4096 numbers, a multiple of 256, is held as a code of 8 bits per number and a scale per
256; smaller ones stay in fp32. A checkpoint keeps codes and scales, so that a resumed run continues with the
same bits. torchao compiles its step, which needs a C++ compiler on a CPU and Triton on a GPU.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor

from unmask.configs.optimizer import OptimizerSection
from unmask.distributed.sharding import is_sharded
from unmask.trainers.optimizers import Part, adamw, parameter_groups, place_on

CODES, SCALE = ".codes", ".scale"
SMALLEST, GROUP = 4096, 256


def build(
    named: Sequence[tuple[str, Tensor]], config: OptimizerSection, rates: Mapping[str, float]
) -> list[Part]:
    """Return 8-bit AdamW over all parameters.

    Raises:
        ValueError: if torchao is not installed, or parameters are sharded over ranks.
    """
    if any(is_sharded(weight) for _, weight in named):
        raise ValueError(
            'optimizer.kind = "adamw_8bit": runs on one process; give "adamw" or "muon" on several ranks, '
            "with optimizer.offload = true where the moments do not fit"
        )
    try:
        optimizers = import_module("torchao.optim")
    except ImportError:
        raise ValueError(
            'optimizer.kind = "adamw_8bit" needs torchao: pip install "unmask[torchao]"'
        ) from None
    groups = parameter_groups(named, config, rates)
    optimizer = optimizers.AdamW8bit(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    return [Part(optimizer, kinds_of, tensors_of, state_of)]


def kinds_of(parameter: Tensor) -> tuple[str, ...]:
    """Return the names of the tensors of a parameter's state."""
    count = parameter.numel()
    if count < SMALLEST or count % GROUP:
        return adamw.MOMENTS
    return ("step", *(f"exp_avg{end}{part}" for end in ("", "_sq") for part in (CODES, SCALE)))


def tensors_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a parameter's state: codes and scales of the moments in 8 bits."""
    found: dict[str, Tensor] = {}
    for kind, value in state.items():
        if hasattr(value, "codes"):
            found |= {kind + CODES: value.codes, kind + SCALE: value.scale}
        else:
            found[kind] = value
    return found


def state_of(parameter: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a parameter's state from its tensors."""
    moments_8bit = import_module("torchao.optim.subclass_8bit").OptimState8bit
    state = place_on(parameter, {k: v for k, v in tensors.items() if k != "step"})
    for kind in [name.removesuffix(CODES) for name in tensors if name.endswith(CODES)]:
        codes, scale = state.pop(kind + CODES), state.pop(kind + SCALE)
        moment = moments_8bit.zeros(
            codes.shape, kind == "exp_avg", codes.numel() // len(scale), parameter.device
        )
        moment.codes.copy_(codes)
        moment.scale.copy_(scale)
        state[kind] = moment
    return state | {"step": tensors["step"]}
