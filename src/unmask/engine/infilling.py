"""Infilling: a template text with gaps as pinned tokens.

`Name: [[8]] Age: [[4]]` is the text of a response in which 8 and 4 tokens are to be written. The texts between
the gaps are encoded one by one and pinned, so that the template's length in tokens is the response's.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from unmask.sampling_params import SamplingParams

GAP = re.compile(r"\[\[(\d+)\]\]")


def with_template(
    template: str, encode: Callable[[str], Sequence[int]], sampling: SamplingParams
) -> SamplingParams:
    """Return sampling parameters with a template's texts as `pinned` and its length as `max_tokens`.

    Args:
        template: text with gaps such as `[[8]]`, each a number of tokens to write.
        encode: text to token ids.
        sampling: the other parameters.

    Raises:
        ValueError: if the template has no gap or an empty one, or `sampling` pins tokens already.
    """
    if sampling.pinned:
        raise ValueError("pinned: the tokens of a template are pinned already; give one of the two")
    texts_and_gaps = GAP.split(template)
    gaps = [int(gap) for gap in texts_and_gaps[1::2]]
    if not gaps or 0 in gaps:
        raise ValueError(
            f"template = {template[:80]!r}: must hold gaps of at least one token; [[8]] is one of 8"
        )
    pinned: list[tuple[int, int]] = []
    length = 0
    for text, gap in zip(texts_and_gaps[::2], [*gaps, 0], strict=True):
        token_ids = encode(text) if text else []
        pinned += [(length + index, token) for index, token in enumerate(token_ids)]
        length += len(token_ids) + gap
    # At once: the fields are checked together.
    return replace(sampling, pinned=tuple(pinned), max_tokens=length)
