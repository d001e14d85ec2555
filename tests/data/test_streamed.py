"""Streams: passes that are shuffled in windows, and positions that are restored by skipping records."""

from collections.abc import Iterator

import pytest

from unmask.data.streamed import Streamed

# Records of none, one, two and three items.
RECORDS = [[f"{n}.{i}" for i in range(n % 4)] for n in range(23)]
ITEMS = [item for record in RECORDS for item in record]


def read(skip: int) -> Iterator[list[str]]:
    yield from RECORDS[skip:]


def test_every_pass_has_each_item_once_in_another_order() -> None:
    source = Streamed(read, seed=3, window=5)
    draws = [source.draw(len(ITEMS)) for _ in range(3)]
    passes = [[draw.item for draw in drawn] for drawn in draws]
    for number, drawn in enumerate(draws, start=1):
        assert all(d.key[0] == number and d.item == RECORDS[d.key[1]][d.key[2]] for d in drawn)
    for drawn in passes:
        assert sorted(drawn) == sorted(ITEMS)
    assert len({tuple(drawn) for drawn in passes}) == 3
    other = Streamed(read, seed=4, window=5).draw(len(ITEMS))
    assert passes[0] != [draw.item for draw in other]
    # An item stays within its window.
    first = {int(item.partition(".")[0]) for item in passes[0][:6]}
    assert first <= set(range(5))


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 33, 34, 35, 80])
def test_a_restored_stream_goes_on_with_the_next_item(count: int) -> None:
    source, restored = Streamed(read, 3, 5), Streamed(read, 3, 5)
    source.draw(count)
    restored.draw(2)
    restored.restore(source.state())
    assert restored.draw(90) == source.draw(90)
    assert restored.state() == source.state()


def test_nothing_is_read_before_the_first_draw_and_no_record_twice() -> None:
    seen: list[int] = []

    def watched(skip: int) -> Iterator[list[int]]:
        for number in range(skip, 10):
            seen.append(number)
            yield [number]

    source = Streamed(watched, 0, 4)
    assert seen == []
    source.draw(4)
    assert seen == [0, 1, 2, 3]
    source.draw(6)
    assert seen == list(range(10))


def test_a_stream_without_items_is_refused() -> None:
    for records in ([], [[]]):
        source: Streamed[int] = Streamed(lambda skip, found=records: iter(found[skip:]), 0)
        with pytest.raises(ValueError, match="the stream has no demonstrations"):
            source.draw(1)


def test_other_states_are_refused() -> None:
    source = Streamed(read, 3, 5)
    with pytest.raises(ValueError, match="did not stream its data"):
        source.restore({"dealt": 3, "items": 5})
    with pytest.raises(ValueError, match="fewer items than when the run began"):
        source.restore({"dealt": 3, "pass": 0, "records": 0, "place": 100})
