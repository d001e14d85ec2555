"""The cache grows when it must, keeps what it holds, and takes no more memory than was asked for."""

import pytest
import torch

from tests.toy import SPEC, toy_model
from unmask.engine.pages import PagePool
from unmask.models.attention import pad_keys


def test_nothing_is_reserved_before_it_is_needed() -> None:
    assert PagePool(toy_model()).keys.numel() == 0


def test_a_pool_grows_in_both_directions_and_keeps_its_content() -> None:
    pool = PagePool(toy_model())
    pool.reserve(3, 20)
    assert pool.keys.shape == (SPEC.num_layers, 3, 32, SPEC.num_kv_heads, SPEC.head_width)
    pool.keys.normal_()
    pool.values.normal_()
    keys, values = pool.keys.clone(), pool.values.clone()
    pool.reserve(5, 40)
    assert pool.keys.shape == pool.values.shape == (2, 5, 64, 2, 8)
    assert torch.equal(pool.keys[:, :3, :32], keys) and torch.equal(pool.values[:, :3, :32], values)
    assert not pool.keys[:, 3:].any() and not pool.values[:, :, 32:].any()


def test_a_pool_that_is_large_enough_is_left_alone() -> None:
    pool = PagePool(toy_model())
    pool.reserve(3, 40)
    place = pool.keys.data_ptr()
    pool.reserve(2, 60)
    pool.reserve(3, 10)
    assert pool.keys.data_ptr() == place and pool.width == 64


def test_the_cache_has_the_format_of_the_weights() -> None:
    assert PagePool(toy_model(dtype=torch.float64)).keys.dtype == torch.float64


@pytest.mark.parametrize(
    ("count", "padded"), [(1, 32), (32, 32), (33, 64), (128, 128), (129, 512), (513, 1024)]
)
def test_key_counts_go_in_steps(count: int, padded: int) -> None:
    assert pad_keys(count) == padded
