"""The program in a response."""

import re

# A fence opens at the start of a line; what stands behind its backticks names the language.
FENCE = re.compile(
    r"^([ \t]*)```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```[ \t\r]*$|\Z)", re.DOTALL | re.MULTILINE
)
PYTHON = {"python", "python3", "py"}


def program_from_response(response: str) -> str:
    """Return the program a response holds.

    The last fenced block marked as Python; without one, the last fenced block of no language;
    without one, the whole response, which is what a model that completes code writes. A block that
    is never closed goes to the end. The lines of a block lose the indentation of its fence, as in
    Markdown: a list indents both.
    """
    blocks = FENCE.findall(response)
    for wanted in (PYTHON, {""}):
        found = [(indent, text) for indent, language, text in blocks if language.lower() in wanted]
        if found:
            indent, text = found[-1]
            return re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
    return response
