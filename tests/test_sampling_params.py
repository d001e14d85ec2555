"""Parameters of a request: values that are refused, and names of other libraries."""

from typing import Any

import pytest

from unmask.sampling_params import SamplingParams


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strategy", "greedy"),
        ("confidence", "raww"),
        ("temperature", float("nan")),
        ("denoising_steps", 0),
        ("block_size", 0),
        ("max_tokens", 0),
        ("n", 0),
        ("top_k", -2),
        ("temperature", -0.1),
        ("top_p", 1.01),
        ("top_p", 0.0),
        ("min_p", -0.5),
        ("threshold", 2.0),
        ("threshold", float("nan")),
        ("sub_block_size", 0),
        ("factor", -1.0),
        ("factor", float("inf")),
        ("entropy_bound", -0.1),
        ("entropy_bound", float("nan")),
        ("entropy_sum", "both"),
        ("guidance", -1.0),
        ("edit_threshold", 1.5),
        ("max_edit_steps", -1),
        ("remask_threshold", -0.1),
    ],
)
def test_impossible_values_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} = "):
        SamplingParams(**{field: value})  # pyright: ignore[reportArgumentType]


COUNTS = ("denoising_steps", "block_size", "sub_block_size", "max_tokens", "n", "top_k")


@pytest.mark.parametrize("field", [*COUNTS, "max_edit_steps", "seed"])
@pytest.mark.parametrize("value", [4.5, 2.0, True, "4"])
def test_whole_numbers_are_ints(field: str, value: Any) -> None:
    """A sampler would cut 4.5 to 4, or fail in the middle of a batch."""
    with pytest.raises(ValueError, match=rf"{field} = {value!r}: must be a whole number \(int\)"):
        SamplingParams(**{field: value})


@pytest.mark.parametrize("field", [*COUNTS, "max_edit_steps"])
@pytest.mark.parametrize("value", [2**70, 2**63 - 1])
def test_counts_that_no_tensor_holds_are_refused(field: str, value: int) -> None:
    """Short of int64 too: what the engine makes of them would overflow."""
    with pytest.raises(ValueError, match=f"{field} = {value}: must be at least"):
        SamplingParams(**{field: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("field", ["max_tokens", "n", "top_k", "temperature", "threshold"])
def test_none_is_no_number(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = None: must be a"):
        SamplingParams(**{field: None})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("value", ["0.5", True, 10**400])
def test_amounts_that_no_tensor_holds_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"temperature = .*must be (a number|0)"):
        SamplingParams(temperature=value)


def test_any_int_is_a_seed_and_none_asks_for_one() -> None:
    """`derive_seed` makes 64 bits of it."""
    assert SamplingParams(seed=None).seed is None  # pyright: ignore[reportArgumentType]
    assert SamplingParams(seed=2**70).seed == 2**70
    assert SamplingParams(seed=-1).seed == -1


@pytest.mark.parametrize("value", [3, "3", (2.0,), (True,), (2**70,), (-1,)])
def test_stop_token_ids_are_ids(value: Any) -> None:
    with pytest.raises(ValueError, match="stop_token_ids = "):
        SamplingParams(stop_token_ids=value)
    assert SamplingParams(stop_token_ids=()).stop_token_ids == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "an empty string ends every response"),
        (3, "must be a tuple of strings"),
        ((3,), "3 must be a string, not int"),
        (("a", ""), "an empty string ends every response"),
    ],
)
def test_stop_is_a_tuple_of_texts(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"stop = .*{message}"):
        SamplingParams(stop=value)


def test_filters_are_seen() -> None:
    assert not SamplingParams().is_filtered
    assert SamplingParams(top_k=1).is_filtered
    assert not SamplingParams(top_k=-1).is_filtered
    assert SamplingParams(top_p=0.9).is_filtered
    assert SamplingParams(min_p=0.1).is_filtered
    assert not SamplingParams(temperature=0.5).is_filtered


def test_requests_that_revise_are_seen() -> None:
    assert not SamplingParams().revises
    assert SamplingParams(edit_threshold=0.0).revises
    assert SamplingParams(remask_threshold=0.0).revises


@pytest.mark.parametrize("value", [1e-39, 9e-7, 1.1e6, 1e39])
def test_a_temperature_that_no_logit_survives_is_refused(value: float) -> None:
    with pytest.raises(
        ValueError, match=r"^temperature = .*: must be 0 \(greedy\), or at least 1e-06"
    ):
        SamplingParams(temperature=value)


def test_pinned_tokens_are_sorted_pairs() -> None:
    params = SamplingParams(pinned=[[7, 3], (2, 9)])  # pyright: ignore[reportArgumentType]
    assert params.pinned == ((2, 9), (7, 3)) and params.first_end == 7
    assert SamplingParams().first_end == 0


@pytest.mark.parametrize(
    ("pinned", "message"),
    [
        (5, "must be pairs of a position of the response and a token id"),
        ((3, 4), "pinned holds 3: must be pairs"),
        (((1, 2, 3),), "must be pairs"),
        (((1, 2.0),), "must be pairs"),
        (((True, 2),), "must be pairs"),
        (((-1, 2),), "must be pairs"),
        (((1, 2**40),), "must be pairs"),
        (((1, 2), (1, 3)), "pinned holds position 1 twice"),
        (((256, 2),), "position 256, but max_tokens = 256 .* raise max_tokens to 257"),
    ],
)
def test_pinned_tokens_that_cannot_stand_are_refused(pinned: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(pinned=pinned)


def test_stop_strings_with_pinned_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"stop = .* with pinned tokens"):
        SamplingParams(pinned=((0, 1),), stop="\n")


def test_min_tokens_fit_the_response_and_stop_tokens_alone() -> None:
    pinned = SamplingParams(min_tokens=5, pinned=((2, 9),))
    assert (SamplingParams(min_tokens=5).first_end, pinned.first_end) == (5, 5)
    assert SamplingParams(min_tokens=2, pinned=((7, 9),)).first_end == 7
    for fields, message in (
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens = 9: max_tokens = 8 ends the response"),
        ({"min_tokens": 1, "stop": "x"}, r"min_tokens = 1 with stop = \('x',\): holds for stop_t"),
        ({"min_tokens": 1, "regex": "a"}, "min_tokens = 1 with regex or json_schema: holds"),
        ({"min_tokens": -1}, "min_tokens = -1: must be at least"),
    ):
        with pytest.raises(ValueError, match=message):
            SamplingParams(**fields)  # type: ignore[arg-type]
