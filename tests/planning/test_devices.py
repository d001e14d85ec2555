"""The table of devices, and what replaces its figures."""

import json
from pathlib import Path

import pytest

from unmask.planning.devices import CARDS, GIB, NAMES, device_named


def test_every_name_has_a_device(tmp_path: Path) -> None:
    for name in NAMES:
        device = device_named(name, measured=tmp_path / "none.json")
        assert device.name == name
        assert 0 < device.usable < device.memory
        assert min(device.flops, device.bandwidth, device.link, device.network) > 0
    assert [card.source for card in CARDS] == ["data sheet"] * 4


def test_an_unknown_device_lists_those_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"--device tpu: must be one of h100, h200, a100, b200, cpu"
    ):
        device_named("tpu")


def test_measured_figures_replace_those_of_the_data_sheet(tmp_path: Path) -> None:
    file = tmp_path / "gpu_check.json"
    reached = {"name": "NVIDIA H100 80GB HBM3", "flops": 7e14, "bandwidth": 3e12}
    file.write_text(json.dumps({"ceilings": {"figures": {"reached": reached}}}))
    card = device_named("h100", measured=file)
    assert (card.flops, card.bandwidth, card.memory) == (7e14, 3e12, 80 * GIB)
    assert str(file) in card.source
    assert device_named("h200", measured=file).source == "data sheet"


def test_the_cpu_is_measured_in_fp32() -> None:
    cpu = device_named("cpu")
    assert cpu.is_cpu and cpu.width == 4 and cpu.flops > 1e8
