"""Compact `countdown`: the prompt is `3,5,7=21:`, the response an expression of these numbers with that value.

The numbers are in rising order. In the generator's random order the same problem could be in two
splits.
"""

from unmask.tasks.wording import Entry, Wording


def question(entry: Entry) -> str:
    """Return the numbers in rising order, and the target."""
    metadata = entry["metadata"]
    return f"{','.join(map(str, sorted(metadata['numbers'])))}={metadata['target']}:"


def demonstration(entry: Entry) -> str:
    """Return the expression the generator built, without spaces."""
    return entry["metadata"]["expression"].replace(" ", "")


WORDING = Wording(question, demonstration, lambda text: text, alphabet="0123456789+-*/(),=:")
