"""Plain text in columns: what `doctor`, `runs` and comparisons print.

No borders, no colours and no wrapping: a line stays a line, so the output can be cut, grepped and
pasted, and a narrow terminal folds it where it likes.
"""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return rows as lines with aligned columns.

    Args:
        rows: of equal length; the first one may be the headings.
        right: numbers of the columns that end, instead of begin, at one place.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
