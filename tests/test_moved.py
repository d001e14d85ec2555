"""Old import paths: the same module object, with a warning."""

import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from unmask.moved import MOVED


@pytest.mark.parametrize("path", MOVED)
def test_an_old_path_gives_the_module_of_the_new_one(path: str) -> None:
    sys.modules.pop(f"unmask.{path}", None)
    with pytest.warns(DeprecationWarning, match="is now unmask"):
        old = import_module(f"unmask.{path}")
    new = import_module(f"unmask.{MOVED[path]}")
    assert old is new
    assert new.__name__ == new.__spec__.name == f"unmask.{MOVED[path]}"


def test_no_other_name_is_found() -> None:
    assert find_spec("unmask.models.freshh") is None
