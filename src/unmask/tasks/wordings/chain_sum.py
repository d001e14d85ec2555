"""Compact `chain_sum`: the prompt is `4-1-7=`, the response its running totals, `3;-4`.

Writing the totals lets a small model do one addition at a time. Only the text after the last `;` is
graded; the intermediate totals are free.
"""

from itertools import accumulate

from unmask.tasks.wording import Entry, Wording


def question(entry: Entry) -> str:
    """Return the expression without spaces, and `=`."""
    return entry["metadata"]["expression"].replace(" ", "") + "="


def demonstration(entry: Entry) -> str:
    """Return the totals after the second term and every later one."""
    first, *rest = entry["metadata"]["expression"].split()
    # `rest` is sign, number, sign, number, ...
    signed = [int(f"{sign}1") * int(term) for sign, term in zip(rest[::2], rest[1::2], strict=True)]
    totals = list(accumulate(signed, initial=int(first)))
    return ";".join(str(total) for total in totals[1:] or totals)


def answer(response: str) -> str:
    """Return the text after the last `;`."""
    return response.rpartition(";")[2]


WORDING = Wording(question, demonstration, answer, alphabet="0123456789+-=;")
