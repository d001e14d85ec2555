"""Packed weights: another layout, the same model."""

import pytest
import torch
from torch import nn

from tests.models.toy import family_model, toy_model
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.models.cpu.prepacked_linear import PackedLinear, packed_twin
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.transformer import Model, initialise

IDS = torch.arange(1, 25).view(2, 12)


def twin_of(model: Model) -> Model:
    try:
        return packed_twin(model)
    except ValueError as error:
        pytest.skip(str(error))


@torch.inference_mode()
def gap(model: Model, twin: Model) -> float:
    return float((model.logits(IDS) - twin.logits(IDS)).abs().max())


@pytest.mark.parametrize("family", ["sdar", "llada2", "dream"])
def test_a_twin_computes_what_its_model_does(family: str) -> None:
    """With biases and with experts, which have no stand-in."""
    model = family_model(family)
    assert gap(model, twin_of(model)) < 1e-4


def test_every_linear_layer_has_a_stand_in_and_nothing_else() -> None:
    model = toy_model()
    twin = twin_of(model)
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    packed = {name for name, module in twin.named_modules() if isinstance(module, PackedLinear)}
    assert packed == linears and len(linears) > 7
    assert twin.backbone.embedding is not model.backbone.embedding
    assert twin.backbone.embedding.weight is model.backbone.embedding.weight
    assert not any(isinstance(module, PackedLinear) for module in model.modules())


def test_adapters_are_shared_and_stay_unpacked() -> None:
    model = toy_model()
    add_lora(model, LoRAParams(rank=2, targets=("attention",)))
    twin = twin_of(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.fill_(0.1)
    assert gap(model, twin) < 1e-4


def test_a_model_that_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bfloat16 on cpu.*model\.matmul = 'default'"):
        packed_twin(toy_model().to(torch.bfloat16))


def test_an_engine_runs_the_weights_of_its_last_update() -> None:
    model = toy_model()
    twin_of(model)
    engine = Engine(model, EngineParams(packs_weights=True))
    initialise(model, 7)
    assert gap(model, engine._runner.model) > 1e-2
    engine.update_weights()
    assert gap(model, engine._runner.model) < 1e-4
