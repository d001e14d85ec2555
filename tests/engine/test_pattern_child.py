"""The program that builds byte automata: exact, and bounded."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from unmask.engine import pattern_child
from unmask.engine.pattern_child import byte_automaton, main


def accepts(built: dict[str, Any], text: str) -> bool:
    state = 0
    for letter in text.encode():
        state = built["states"][state][letter]
        if state < 0:
            return False
    return state in built["finals"]


@pytest.mark.parametrize("pattern", ["a|ab", "(a|ab)(c|bcd)?", "(ab)*", "é+|.{2}", "", "[^a]?b"])
@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "abbcd", "abab", "é", "éé", "xb", "日b"])
def test_texts_are_accepted_as_by_re(pattern: str, text: str) -> None:
    """Longer alternatives count too: the library alone stops at the first that matches."""
    assert accepts(byte_automaton(pattern, 100), text) == bool(re.fullmatch(pattern, text))


def test_too_many_states_are_refused() -> None:
    with pytest.raises(ValueError, match="its automaton has 22 states, more than 20"):
        byte_automaton("a{20}", 20)


def test_schemas_are_unrolled_to_a_depth() -> None:
    tree = {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": []}
    built = main({"json_schema": json.dumps(tree), "depth": 2, "most_states": 500})
    assert accepts(built, '{"n":{"n":{}}}') and accepts(built, '{"n":{"n":{"n":{}}}}')
    assert not accepts(built, '{"n":{"n":{"n":{"n":{"n":{}}}}}}')


def test_patterns_that_a_json_string_cannot_hold_are_refused() -> None:
    asked = {"json_schema": '{"type": "string"}', "depth": 1, "most_states": 100}
    assert main({**asked, "patterns": ["(?:[a-z ]*)"]})["finals"]
    for pattern in ("[^x]", '"', r"\\", ".", r"\n"):
        with pytest.raises(ValueError, match="allows a quotation mark, a backslash or a control"):
            main({**asked, "patterns": [pattern]})


def test_a_pattern_without_bound_ends_the_process_not_the_caller() -> None:
    """An automaton of 2**24 states takes more than the memory or the time."""
    asked = json.dumps({"regex": "(a|b)*a(a|b){24}", "most_states": 100})
    source = pattern_child.__file__
    # Less than the program's own limits, so that the test is short.
    limits = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1)); "
    program = f"{limits}import runpy; runpy.run_path({source!r}, run_name='child').get('main')"
    program += f"({asked!r} and __import__('json').loads({asked!r}))"
    ran = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True)
    assert ran.returncode < 0
