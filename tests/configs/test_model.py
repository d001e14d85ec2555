"""Keys of `[model]` that exclude each other."""

import pytest

from unmask.configs.model import ModelConfig


def test_compiled_layers_have_no_batch_invariant_bits() -> None:
    with pytest.raises(ValueError, match="compile = true and batch_invariant = true"):
        ModelConfig(path="m", compile=True, batch_invariant=True)
    assert ModelConfig(path="m", compile=True).compile
