"""The families this package reads. Adding one is a file beside this one, and its place in a line."""

from unmask.models.families.dream import DREAM
from unmask.models.families.family import Config, Family
from unmask.models.families.fast_dllm_v2 import FAST_DLLM_V2
from unmask.models.families.llada import LLADA
from unmask.models.families.llada2 import LLADA2
from unmask.models.families.llada_moe import LLADA_MOE
from unmask.models.families.mmada import MMADA
from unmask.models.families.sdar import SDAR
from unmask.models.families.sdar_moe import SDAR_MOE

FAMILIES = (SDAR, SDAR_MOE, LLADA, MMADA, LLADA_MOE, LLADA2, DREAM, FAST_DLLM_V2)


def family_of(config: Config) -> Family:
    """Return the family of a `config.json`: by its first architecture, else by its `model_type`.

    Two families may share an architecture, and then the `model_type` tells them apart; two may share
    that, and then the architecture does.

    Raises:
        ValueError: naming what the config says and the architectures supported.
    """
    model_type = config.get("model_type")
    stated = (config.get("architectures") or [None])[0]
    fitting = [f for f in FAMILIES if stated in (*f.architectures, None)]
    same_type = [f for f in fitting if f.model_type == model_type]
    if same_type or (fitting and stated):
        return (same_type or fitting)[0]
    supported = ", ".join(f.architectures[0] for f in FAMILIES)
    raise ValueError(
        f"config.json: {stated or model_type!r} is no family known here; supported: {supported}"
    )


def family_named(name: str) -> Family:
    """Return the family a `ModelSpec` names."""
    return next(family for family in FAMILIES if family.name == name)
