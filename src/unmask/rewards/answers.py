r"""Finding the answer in a response.

A response is everything the model wrote; the answer is the part that is judged. The last
`\boxed{...}` counts, and `<answer>...</answer>` where a prompt asked for it. A box that is never
closed is no box: the response was cut there. Nothing is guessed beyond that, so a response without
either is its own answer.

Every search is one pass: a response is foreign text, and a megabyte of opening braces must not hold
up the process that reads it.
"""

import re

# The look-behind and the possessive repeats keep a long run of backslashes from being read once per
# backslash. What follows any other backslash is no brace.
TOKEN = re.compile(
    r"(?P<box>(?<!\\)\\++boxed\s*+\{)|\\.|(?P<opening>\{)|(?P<closing>\})", re.DOTALL
)
OPEN_TAG, CLOSE_TAG = "<answer>", "</answer>"


def last_boxed(text: str) -> str | None:
    r"""Return what stands in the last closed `\boxed{...}`, or None; escaped braces do not count."""
    opened: list[int] = []  # where the content of a box starts; -1 for any other brace
    last = (-1, -1)
    for token in TOKEN.finditer(text):
        match token.lastgroup:
            case "box":
                opened.append(token.end())
            case "opening":
                opened.append(-1)
            case "closing" if opened:
                last = max(last, (opened.pop(), token.start()))
            case _:  # an escaped character, or a brace that nothing opened
                pass
    start, end = last
    return None if start < 0 else text[start:end]


def answer_from_response(response: str) -> str:
    """Return the last tagged part, in it the last boxed part, in any case without outer whitespace."""
    tagged = _last_tagged(response)
    text = response if tagged is None else tagged
    boxed = last_boxed(text)
    return (text if boxed is None else boxed).strip()


def _last_tagged(text: str) -> str | None:
    start = text.rfind(OPEN_TAG, 0, max(text.rfind(CLOSE_TAG), 0))
    if start < 0:
        return None
    start += len(OPEN_TAG)
    return text[start : text.find(CLOSE_TAG, start)]
