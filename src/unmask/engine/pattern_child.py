"""The program that turns a pattern into a byte automaton, run as a process of its own.

A short pattern may have an automaton of any size, and the library builds it without a bound and without
releasing the interpreter. Here it has a limit of memory and of time, and the caller's process has neither to fear.

Standard input: a JSON object with `regex` or `json_schema` (a JSON text), `depth` of recursion, `patterns` (of
strings in the schema) and `most_states`. Standard output: a JSON object with `states`, for each of which there
are the next states of the bytes 0 to 255 (-1 where no text goes on), and `finals`; or with `error`.
"""

import json
import resource
import sys
from typing import Any

MEMORY, SECONDS = 2**30, 5
# No text holds this byte. It stands behind every text, so that a match that could go on does not hide longer ones:
# the library's automata prefer the first alternative that matches. It stands before every text too: they also
# search for a match that begins later, which without it takes exponential time for a loop that may begin anywhere.
END = 0
# A JSON string cannot hold these bytes as they are.
UNQUOTED = {*range(0x20), ord('"'), ord("\\")}


def build_index(pattern: str) -> Any:
    """Return the library's automaton of a pattern between two `END` bytes.

    Raises:
        ValueError: if it is no pattern, or nothing matches it.
    """
    from outlines_core import Index, Vocabulary

    # The stop token of the library's automata is not used: any id that is no byte.
    letters = Vocabulary(256, {bytes([letter]): [letter] for letter in range(256)})
    try:
        return Index(rf"\x00(?:{pattern})\x00", letters)
    except ValueError as error:
        if "building NFA" in str(error):
            raise ValueError(
                "not a regular expression of Rust's syntax, which has no look-around or references"
            ) from error
        is_empty = "Index failed" in str(error) or "Found no transitions" in str(error)
        raise ValueError("no text matches" if is_empty else str(error)) from error


def byte_automaton(pattern: str, most_states: int) -> dict[str, Any]:
    """Return `states` and `finals` of a regular expression, state 0 first.

    Raises:
        ValueError: if it is none, or has more states.
    """
    index = build_index(pattern)
    edges, ended = index.get_transitions(), index.get_final_states()
    first = edges.pop(index.get_initial_state())[END]
    if len(edges) > most_states:
        raise ValueError(f"its automaton has {len(edges):,} states, more than {most_states:,}")
    numbers = {first: 0}
    for state in edges:
        numbers.setdefault(state, len(numbers))
    rows = [[-1] * 256 for _ in numbers]
    finals = []
    for state, targets in edges.items():
        for letter, target in targets.items():
            if letter == END and target in ended:
                finals.append(numbers[state])
            elif END < letter < 256:
                rows[numbers[state]][letter] = numbers[target]
    return {"states": rows, "finals": finals}


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request."""
    most = asked["most_states"]
    pattern = asked.get("regex")
    for text in asked.get("patterns", ()):
        rows = byte_automaton(text, most)["states"]
        if any(row[letter] >= 0 for row in rows for letter in UNQUOTED):
            raise ValueError(
                f"pattern {text!r} allows a quotation mark, a backslash or a control character, which "
                "a JSON string holds only escaped: exclude them"
            )
    if pattern is None:
        from outlines_core import json_schema

        pattern = json_schema.build_regex_from_schema(asked["json_schema"], None, asked["depth"])
    return byte_automaton(pattern, most)


if __name__ == "__main__":
    if sys.platform != "darwin":  # macOS refuses this limit; there only the time limit holds
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = main(json.load(sys.stdin))
    except (ValueError, TypeError) as error:  # TypeError: the library's word for broken JSON
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)
