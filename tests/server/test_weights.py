"""The body of `/admin/update_weights`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toy import toy_checkpoint
from unmask.checkpoints.checkpoint import load_model
from unmask.engine.llm import LLM
from unmask.server.errors import ApiError
from unmask.server.weights import read_weights


def test_the_weights_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path / "a"))
    other = toy_checkpoint(tmp_path / "b", seed=5)
    body = json.dumps({"path": str(other), "version": 3}).encode()
    weights, version = read_weights(body, llm)
    assert version == 3
    expected = dict(load_model(other).named_parameters())
    assert weights.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "path"),
        ({"path": 3}, "path"),
        ({"path": "./nothing"}, "path"),
        ({"path": "a", "other": 1}, "other"),
        ({"path": "a", "version": -1}, "version"),
        ({"path": "a", "version": True}, "version"),
        ({"path": "a", "version": 2**70}, "version"),
    ],
)
def test_fields_at_fault_are_named(body: Any, param: str, tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path / "a"))
    with pytest.raises(ApiError) as caught:
        read_weights(json.dumps(body).encode(), llm)
    assert caught.value.param == param


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path / "a"))
    for changes in ({"num_layers": 1}, {"rope_theta": 1e5}):
        path = toy_checkpoint(tmp_path / str(changes), **changes)
        with pytest.raises(ApiError, match="another architecture"):
            read_weights(json.dumps({"path": str(path)}).encode(), llm)
