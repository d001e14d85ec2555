"""Law 1 under oneDNN's matrix products, in a process of its own: exits with 2, and why, where there are none."""

import sys

import tests.conftest  # noqa: F401  one thread, before torch is used
from tests.engine.bits import assert_same, bits_hold
from tests.engine.models import model_of
from tests.engine.writers import by_engine, by_reference, sharing_asks
from unmask.engine.options import EngineParams
from unmask.models.cpu.matmul import use_matmul
from unmask.models.cpu.prepacked_linear import packed_twin


def main() -> int:
    """Compare engine and reference sampler on two kinds of model, weights as they are and packed."""
    import torch

    try:
        use_matmul("onednn")
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not bits_hold():
        sys.stderr.write("this CPU's arithmetic depends on padding under oneDNN\n")
        return 2
    for kind in ("blocks", "canvas"):
        model = model_of(kind, torch.float32)
        asks = sharing_asks(6, 4, model)
        assert_same(by_engine(model, asks), [by_reference(model, ask) for ask in asks])
        twin = packed_twin(model)
        packed = by_engine(model, asks, EngineParams(packs_weights=True))
        assert_same(packed, [by_reference(twin, ask) for ask in asks])
    return 0


if __name__ == "__main__":
    sys.exit(main())
