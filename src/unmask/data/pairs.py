"""Preference pairs: two answers to one prompt, of which the first is preferred.

A record is read by the layouts of `pair_layouts/`, and its conversations become tokens as those of SFT do
(`demonstrations.py`): the chat template and the end of text are applied, and the last turn is the answer.

Both answers must follow the same tokens, and must differ: a pair of equal answers has no gradient. Each is
refused by the number of its record.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from unmask.configs.pairs import PairsConfig
from unmask.configs.sft_data import PAIRS, RecordsConfig
from unmask.data.demonstrations import (
    Demonstration,
    Vocabulary,
    demonstrations_of_example,
    image_root,
    in_layout,
    read_source,
)
from unmask.data.examples import Example, all_layouts, opened_record, with_images
from unmask.data.record_images import RecordImages


@dataclass(frozen=True, slots=True)
class PairExample:
    """What a record holds: two conversations, or two lists of token ids.

    Attributes:
        chosen: the preferred one.
        rejected: the other one.
    """

    chosen: Example
    rejected: Example


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt.

    Attributes:
        chosen: the preferred one.
        rejected: the other one, with the same prompt.
        place: config key, file and line, for messages.
    """

    chosen: Demonstration
    rejected: Demonstration
    place: str = field(default="", compare=False)

    @property
    def answers(self) -> tuple[Demonstration, Demonstration]:
        """The preferred answer and the other one."""
        return self.chosen, self.rejected


def pair_examples(config: PairsConfig, key: str) -> Iterator[tuple[str, PairExample]]:
    """Yield the place and the conversations of each record.

    Args:
        config: names the records.
        key: of the section, such as `data`.

    Raises:
        ValueError: the records cannot be read; or naming the place of one that is no table, of an unknown
            layout or of another than the first one, lacks a field, or has an empty answer.
    """
    images = RecordImages(image_root(config), f"{key}.image_root")
    records = read_source(config, key)
    example = 'prompt = "...", chosen = "...", rejected = "..."'
    for place, values, layout in in_layout(records, config.layout, config.fields, PAIRS, example):
        try:
            opened, waiting = opened_record(values, layout, images, PAIRS)
            found = all_layouts(PAIRS)[layout].read(opened)
            both = (with_images(e, waiting, layout) for e in (found.chosen, found.rejected))
            yield place, PairExample(*both)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


def pairs_of_source(config: PairsConfig, key: str, vocabulary: Vocabulary) -> Iterator[Pair]:
    """Yield the pairs of a file or of a data set on the hub, in their order.

    Args:
        config: names the records, and how they are read.
        key: of the section, such as `data`.
        vocabulary: of the model.

    Raises:
        ValueError: as `pair_examples` and `demonstrations_of_records`; or the prompts of a pair differ, or
            its answers do not.
    """
    rendering = RecordsConfig(rendered=config.rendered, turns="last")
    for place, example in pair_examples(config, key):
        # Each has one demonstration: that of its last turn.
        (chosen,), (rejected,) = (
            demonstrations_of_example(answer, place, rendering, vocabulary)
            for answer in (example.chosen, example.rejected)
        )
        yield checked(Pair(chosen, rejected, place))


def checked(pair: Pair) -> Pair:
    """Return a pair.

    Raises:
        ValueError: naming its place, if the prompts differ, or the answers are equal.
    """
    chosen, rejected = pair.answers
    if (chosen.prompt_ids, chosen.images) != (rejected.prompt_ids, rejected.images):
        raise ValueError(
            f"{pair.place}: the two conversations differ before their last turn: an answer is compared with "
            "another one to the same prompt"
        )
    if chosen.response_ids == rejected.response_ids:
        raise ValueError(f"{pair.place}: the two answers are equal: remove the record")
    return pair
