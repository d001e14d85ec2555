r"""Finding the answer in a response.

A response is everything the model wrote; the answer is the part that is judged. The last
`\boxed{...}` counts, and `<answer>...</answer>` where a prompt asked for it. A box that is never
closed is no box: the response was cut there. Nothing is guessed beyond that, so a response without
either is its own answer.
"""

import re

BOX = re.compile(r"\\boxed\s*\{")
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def last_boxed(text: str) -> str | None:
    r"""Return what stands in the last closed `\boxed{...}`, or None; escaped braces do not count."""
    for match in reversed(list(BOX.finditer(text))):
        end = _closing_brace(text, match.end())
        if end is not None:
            return text[match.end() : end]
    return None


def answer_from_response(response: str) -> str:
    """Return the last tagged part, in it the last boxed part, in any case without outer whitespace."""
    tagged = TAGGED.findall(response)
    text = tagged[-1] if tagged else response
    boxed = last_boxed(text)
    return (text if boxed is None else boxed).strip()


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    position = start
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
        position += 1
    return None
