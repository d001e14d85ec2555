"""Configs name a checkpoint; device, number format and size are decided here."""

from pathlib import Path

import pytest
import torch

from tests.toy import toy_checkpoint
from unmask.configs.engine import EngineConfig
from unmask.configs.model import ModelConfig
from unmask.engine.build import build_llm
from unmask.engine.options import EngineParams
from unmask.sampling_params import SamplingParams


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_checkpoint(tmp_path_factory.mktemp("toy"))


def test_a_cpu_holds_float32_by_default(directory: Path) -> None:
    llm = build_llm(ModelConfig(path=str(directory), device="cpu"), EngineConfig())
    assert (llm.model.dtype, llm.model.device.type) == (torch.float32, "cpu")
    wide = ModelConfig(path=str(directory), device="cpu", dtype="float64")
    assert build_llm(wide, EngineConfig()).model.dtype == torch.float64


def test_the_config_reaches_the_model(directory: Path) -> None:
    config = ModelConfig(
        path=str(directory),
        device="cpu",
        mask_id=7,
        block_size=8,
        gradient_checkpointing=True,
        batch_invariant=True,
    )
    model = build_llm(config, EngineConfig()).model
    assert (model.spec.mask_id, model.spec.block_size) == (7, 8)
    assert model.backbone.gradient_checkpointing
    assert model.is_batch_invariant


def test_the_number_of_slots_changes_no_result(directory: Path) -> None:
    model = ModelConfig(path=str(directory), device="cpu")
    small, large = (build_llm(model, EngineConfig(max_sequences=n)) for n in (1, 9))
    prompts = ["1+2", "3", ""]
    params = SamplingParams(max_tokens=9)
    one, other = (llm.generate(prompts, params) for llm in (small, large))
    assert [g.token_ids for g in one] == [g.token_ids for g in other]


def test_every_key_of_the_engine_reaches_it(directory: Path) -> None:
    config = EngineConfig(
        max_sequences=3,
        row_budget=40,
        cache_tokens=640,
        shares_prefixes=False,
        cache="dual",
        horizon=7,
    )
    params = build_llm(ModelConfig(path=str(directory), device="cpu"), config).engine.params
    named = config.model_dump()
    assert {name: getattr(params, name) for name in named} == named


def test_the_defaults_of_the_config_are_those_of_the_engine(directory: Path) -> None:
    params = build_llm(ModelConfig(path=str(directory), device="cpu"), EngineConfig()).engine.params
    assert params == EngineParams().on(torch.device("cpu"))


@pytest.mark.parametrize("name", ["foo", "cuda:99", "cpu:1", ""])
def test_a_device_that_is_not_there_is_refused(name: str, directory: Path) -> None:
    with pytest.raises(ValueError, match=rf"^model\.device = {name}: torch finds cpu"):
        build_llm(ModelConfig(path=str(directory), device=name), EngineConfig())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_refused_where_there_is_none(directory: Path) -> None:
    with pytest.raises(ValueError, match=r"^model\.device = cuda: torch finds cpu here"):
        build_llm(ModelConfig(path=str(directory), device="cuda"), EngineConfig())
    assert build_llm(ModelConfig(path=str(directory)), EngineConfig()).model.device.type == "cpu"
