"""The one rule that follows from two conventions."""

import pytest
import torch

from unmask.diffusion.conventions import Conventions


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("is_shifted", [False, True])
def test_only_shifted_blocks_reveal_their_first_position_alone(
    is_full: bool, is_shifted: bool
) -> None:
    conventions = Conventions(1, torch.ones(3, dtype=torch.bool), is_full, is_shifted)
    assert conventions.first_is_alone == (is_shifted and not is_full)
