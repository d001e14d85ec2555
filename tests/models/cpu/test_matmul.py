"""Which kernels multiply: a choice of the process, refused where it would cost precision."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from unmask.models.cpu.matmul import is_single_precision, use_matmul

SETTING = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The choice holds for the whole process: leave it as it was."""
    before = SETTING.fp32_precision
    yield
    SETTING.fp32_precision = before


def products() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(96, 96, generator=generator) for _ in range(2))
    return x @ y


def test_default_restores_the_numbers_there_were() -> None:
    before = products()
    try:
        use_matmul("onednn")
    except ValueError as error:
        pytest.skip(str(error))
    use_matmul("default")
    assert torch.equal(products(), before)


def test_onednn_keeps_single_precision() -> None:
    """The switch is named after bfloat16, which would be off by a hundredth here."""
    try:
        use_matmul("onednn")
    except ValueError as error:
        pytest.skip(str(error))
    assert is_single_precision()
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(96, 96, generator=generator) for _ in range(2))
    torch.testing.assert_close((x @ y).double(), x.double() @ y.double(), atol=1e-4, rtol=1e-5)


def test_a_processor_that_rounds_is_refused_and_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unmask.models.cpu.matmul.is_single_precision", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    before = products()
    with pytest.raises(ValueError, match="on this processor it rounds to bfloat16; use 'default'"):
        use_matmul("onednn")
    assert torch.equal(products(), before) and SETTING.fp32_precision == "none"


def test_a_torch_without_onednn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(ValueError, match="this torch was built without it; use 'default'"):
        use_matmul("onednn")


def test_kernels_that_do_not_exist_are_refused() -> None:
    with pytest.raises(
        ValueError, match="matmul = 'magic': must be one of default, onednn, packed"
    ):
        use_matmul("magic")


def test_rounding_to_bfloat16_would_be_noticed() -> None:
    """The probe sees what 8 bits of mantissa cannot hold."""
    assert is_single_precision()
    probe = torch.full((64, 64), 1 + 2.0**-12)
    assert not (probe.bfloat16().float() == probe).any()


def test_nothing_is_chosen_on_import() -> None:
    code = (
        "import torch; before = torch.backends.mkldnn.matmul.fp32_precision; "
        "import unmask.models.cpu.matmul; "
        "assert torch.backends.mkldnn.matmul.fp32_precision == before"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
