"""Shapes of published models have the parameters of the published files."""

import pytest

from unmask.planning.published import SHAPES, published_shape
from unmask.planning.sizes import sizes_of


@pytest.mark.parametrize(
    ("shape", "num_bytes"),
    # Total size in the index of the released bf16 files.
    [
        *(("4B", 8_822_848_512), ("8B", 16_381_470_720), ("30B-A3B", 61_064_245_248)),
        *(("LLaDA-8B", 16_031_162_368), ("Dream-7B", 15_231_233_024)),
    ],
)
def test_parameters_are_those_of_the_released_files(shape: str, num_bytes: int) -> None:
    assert 2 * sizes_of(SHAPES[shape]).total == num_bytes


@pytest.mark.parametrize(
    ("path", "shape", "block"),
    [
        ("JetLM/SDAR-1.7B-Chat", "1.7B", 4),
        ("models/SDAR-1.7B-Chat-b32", "1.7B", 32),
        ("Gen-Verse/TraDo-8B-Instruct", "8B", 4),
        ("SDAR-30B-A3B-Chat", "30B-A3B", 4),
        ("GSAI-ML/LLaDA-8B-Instruct", "LLaDA-8B", 32),
        ("GSAI-ML/LLaDA-1.5", "LLaDA-8B", 32),
        ("Dream-org/Dream-Coder-v0-Instruct-7B", "Dream-7B", None),
        ("apple/DiffuCoder-7B-cpGRPO", "Dream-7B", None),
    ],
)
def test_names_are_recognised(path: str, shape: str, block: int | None) -> None:
    spec = published_shape(path)
    assert spec is not None
    assert (spec.num_layers, spec.block_size) == (SHAPES[shape].num_layers, block)


@pytest.mark.parametrize(
    "path", ["JetLM/SDAR-2B", "runs/quickstart/rl/model", "SDAR-8B-Chat/files"]
)
def test_other_names_are_not(path: str) -> None:
    assert published_shape(path) is None
