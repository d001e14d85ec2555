"""Published data sets, where this machine has them: `$UNMASK_DATA`, or `shared/data` next to the checkout."""

import os
from pathlib import Path

import pytest

from tests.architecture.source import ROOT


def real_file(name: str) -> Path:
    """Return a published file, or skip the test and say which file it wants."""
    folders = [os.environ.get("UNMASK_DATA", ""), ROOT.parent / "shared" / "data"]
    places = [Path(folder) / name for folder in folders if folder]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        pytest.skip(f"{name} is not here: set UNMASK_DATA to a directory that has it")
    return found
