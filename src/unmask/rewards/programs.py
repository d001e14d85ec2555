"""Extracts the program from a response.

A response is Markdown with the program in a fenced block, or the program alone. Fences open and close
as in CommonMark: three or more backticks or tildes; a closing fence is at least as long as the opening
one, of the same kind and indented by at most three more. Models also write three other forms. Python
has no backtick outside strings and comments, so three of them close a Python block anywhere: at the end
of its last line, or before more text. A fence inside a triple-quoted string is text. And a closing fence
without an opening one ends a program that began with the response.

The program is:

1. if the tests use names of it, the last block that defines all of them;
2. if it is a script, the last block that reads standard input;
3. without such a block, all blocks joined in the first case, and the last one in the second.

Earlier blocks that define or import names which that block uses without binding them are put before it.
The fences of a Markdown block are ignored, so its inner blocks count.

Blocks marked as Python take precedence over blocks without a language; others are ignored.
"""

import re
from collections.abc import Collection, Iterator, Sequence

from unmask.rewards.source_names import names_missing

PYTHON = {"python", "python3", "py", "py3"}
MARKDOWN = {"markdown", "md"}
# After text on the same line a fence opens a block only if it names Python.
OPENING = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<info>[^`\r\n]*)\r?$"
    r"|(?P<glued>`{3,})[ \t]*(?P<python>python3?|py3?)[ \t]*\r?$",
    re.MULTILINE | re.IGNORECASE,
)
NAMES_PYTHON = re.compile(r"[ \t]*(?:python3?|py3?)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
# Strings and comments of Python. A comment ends before trailing backticks that open nothing in it. A
# triple quote that no alternative before it matched opens a string without an end.
PIECE = (
    r'"""(?:\\.|[^\\])*?"""|'
    r"'''(?:\\.|[^\\])*?'''|"
    r"(?P<endless>\"{3}|'{3})|"
    r'"(?:\\.|[^"\\\n])*"|'
    r"'(?:\\.|[^'\\\n])*'|"
    r"#(?:`{3,}[^`\n]*`{3,}|(?<=[\s#])`{3,}|(?!`{3})[^\n])*|"
)
BEGINS_AS_CODE = re.compile(
    r"(?: {2,}|\t)\S|(?:\s|#[^\n]*\n)*(?:@|(?:async|def|class|import|from)\s|\w+ = )"
)
DEFINITION = re.compile(
    r"^(?:(?:async[ \t]+def|def|class)[ \t]+(\w+)|(\w+)[ \t]*(?::[^=\n]+)?=(?!=)"
    r"|(?:from[ \t]+\S+[ \t]+)?import[ \t]+(\w[^\n]*|\([^)]{0,1000}))",
    re.MULTILINE,
)
READS_STDIN = re.compile(r"\binput\s*\(|\bstdin\b|\bfileinput\b|\b(?:open|read)\s*\(\s*0\b")
# Matched on the reversed response, in linear time.
END_MARKS = re.compile(r"(?:\s*(?:>\|\w+\|<|>s/<))*")


def program_from_response(response: str, names: Collection[str] = ()) -> str:
    """Return the program in a response; without a fenced block, the whole response.

    Args:
        response: text of the model.
        names: functions and classes that the tests use; none if the program is a script.
    """
    # The marks stand at the end: of the reversed response they are the beginning.
    text = END_MARKS.sub("", response[::-1], count=1)[::-1]
    blocks = [*_blocks(text)]
    marked = [block for language, block in blocks if language in PYTHON]
    plain = [block for language, block in blocks if not language]
    for candidates in (marked, plain):
        for place, program in reversed([*enumerate(candidates)]):
            fits = all(defines(program, n) for n in names) if names else READS_STDIN.search(program)
            if fits:
                return _completed(program, candidates[:place])
    candidates = marked or plain or [text]
    return "\n".join(candidates) if names else candidates[-1]


def _completed(program: str, earlier: Sequence[str]) -> str:
    """Return a program after the earlier blocks that define names which it uses and does not bind."""
    missing = names_missing(program) if earlier else set[str]()
    for block in reversed(earlier):
        defined = re.findall(r"\w+", " ".join(map(" ".join, DEFINITION.findall(block))))
        if not missing.isdisjoint(defined):
            program = f"{block}\n{program}"
            missing |= names_missing(block)
    return program


def defines(program: str, name: str) -> bool:
    """Return whether a program defines a name at its top level, as a function, a class or a variable."""
    word = re.escape(name)
    pattern = rf"^(?:(?:async[ \t]+def|def|class)[ \t]+{word}\b|(?:\w+\s*=\s*)*{word}\s*(?::[^=\n]+)?=(?!=))"
    return bool(re.search(pattern, program, re.MULTILINE))


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield language, in lower case, and text of each fenced block; one without a closing fence extends to the end."""
    place = 0
    while opening := OPENING.search(text, place):
        before = text[: opening.start()] if place == 0 else ""
        place = opening.end()
        found = re.search(r"[\w+#-]+", opening["info"] or opening["python"] or "")
        language = found[0].lower() if found else ""
        if language in MARKDOWN:
            continue  # its inner blocks are found next
        # A first fence after code, without a language: it closes a block that began with the response.
        if before.strip() and not language and BEGINS_AS_CODE.match(before):
            yield "python", before
            continue
        indent = opening["indent"] or ""
        fence = opening["fence"] or opening["glued"]
        end, place = _closing(text, place, fence, len(indent), language)
        inner = text[opening.end() + 1 : end].rstrip(" \t")  # after the line break of the fence
        yield language, re.sub(rf"^{indent}", "", inner, flags=re.MULTILINE)


def _closing(text: str, start: int, fence: str, indent: int, language: str) -> tuple[int, int]:
    """Return the end of a block, and where the search for the next one starts."""
    run = rf"{fence[0]}{{{len(fence)},}}"
    if not language or language in PYTHON:
        closing = run if fence[0] == "`" else rf"{run}[ \t]*\r?$"
        pieces = re.compile(rf"{PIECE}(?P<fence>{closing})", re.DOTALL | re.MULTILINE)
        found = next((piece for piece in pieces.finditer(text, start) if piece.lastgroup), None)
        if found is not None and found.lastgroup == "fence":
            opens_next = NAMES_PYTHON.match(text, found.end())
            return found.start(), found.start() if opens_next else found.end()
    line = re.compile(rf"^[ \t]{{0,{indent + 3}}}{run}[ \t]*\r?$", re.MULTILINE)
    found = line.search(text, start)
    return (found.start(), found.end()) if found else (len(text), len(text))
