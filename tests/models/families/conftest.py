"""The golden config of the family that a test module is named after."""

import json
from typing import Any

import pytest

from tests.models.toy import GOLDEN


@pytest.fixture
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    family = request.module.__name__.rpartition(".test_")[2]
    return json.loads((GOLDEN / family / "config.json").read_text())
