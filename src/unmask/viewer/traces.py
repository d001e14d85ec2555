"""Chooses the trajectories of a report: a small page that still represents the run.

A run records thousands of trajectories. The page holds the latest, those of lowest reward among the
recent ones, and some spread evenly over the run. They are taken in turns until a budget of bytes is
spent; the page states how many did not fit. The file may be larger than memory, so only its end and
a few places are read. Long prompts and responses are cut, and the cut is marked in the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, zip_longest
from math import exp
from pathlib import Path
from typing import Any, TypeGuard, cast

from unmask.runs.gradings import read_verdicts, with_verdict
from unmask.runs.read import Record, is_number, read_spread, read_tail
from unmask.runs.trajectories import total_reward
from unmask.viewer.markup import json_text
from unmask.viewer.thumbnails import images_of

NUM_LATEST, NUM_LOWEST, NUM_SPREAD = 64, 16, 24
MAX_BYTES = 1_200_000
MAX_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Traces:
    """The trajectories of a page.

    Attributes:
        islands: compact JSON of each, oldest first, safe inside a script element.
        num_left_out: chosen trajectories that exceed the budget.
    """

    islands: tuple[str, ...] = ()
    num_left_out: int = 0


def read_traces(path: Path, max_bytes: int = MAX_BYTES) -> Traces:
    """Choose trajectories of a `trajectories.jsonl`.

    Args:
        path: the file; it may be missing.
        max_bytes: largest size of their JSON; one trajectory is always taken.
    """
    verdicts = read_verdicts(path.parent)

    def playable(records: list[Record]) -> list[Record]:
        return list(filter(is_playable, (with_verdict(record, verdicts) for record in records)))

    recent, spread = playable(read_tail(path)), playable(read_spread(path, NUM_SPREAD))
    newest_first = recent[::-1]
    graded = [record for record in newest_first if record["reward"] is not None]
    lowest = sorted(graded, key=_total)[:NUM_LOWEST]
    chosen: dict[str, tuple[Record, set[str]]] = {}
    for why, record in _in_turns(
        latest=newest_first[:NUM_LATEST], lowest=lowest, spread=spread[::-1]
    ):
        chosen.setdefault(_key(record), (record, set()))[1].add(why)
    islands: list[tuple[int, str]] = []
    room = max_bytes
    for record, why in chosen.values():
        island = json_text(shown(record, sorted(why)))
        if len(island) <= room or not islands:
            islands.append((record.get("step") or 0, island))
            room -= len(island)
    islands.reverse()  # taken newest first; the sort below is stable within a step
    ordered = tuple(island for _, island in sorted(islands, key=lambda pair: pair[0]))
    return Traces(ordered, len(chosen) - len(ordered))


def is_playable(record: Record) -> bool:
    """Return whether a record has all fields that the player needs."""
    canvas, steps, logprobs = (
        record.get(name) for name in ("canvas_ids", "step_map", "behavior_logprobs")
    )
    reward, prompt = record.get("reward"), record.get("prompt")
    return (
        _is_numbers(canvas)
        and _is_numbers(steps)
        and _is_numbers(logprobs)
        and len(canvas) == len(steps) == len(logprobs) > 0
        and _are_revisions(record.get("revisions", []), len(canvas))
        and (reward is None or _is_numbers([reward]) or _is_numbers(reward))
        and (record.get("step") is None or isinstance(record.get("step"), int))
        and is_number(record.get("num_response"))
        and isinstance(record.get("text"), str)
        and isinstance(record.get("parts"), dict | None)
        and isinstance(prompt, dict)
        and _is_numbers(prompt.get("token_ids"))
        and isinstance(prompt.get("messages"), list)
        and isinstance(record.get("sampling"), dict)
    )


def _are_revisions(value: object, count: int) -> bool:
    """Return whether a value is a list of events at `count` positions, as records hold them."""
    events = cast(list[object], value) if isinstance(value, list) else [None]
    return all(
        isinstance(event, dict)
        and all(is_number(event.get(name)) for name in ("step", "position", "token", "logprob"))
        and 0 <= event["position"] < count
        for event in events
    )


def is_shown(record: Record) -> bool:
    """Return whether a record is one that the player has saved: the result of `shown`."""
    ids, steps, texts = record.get("ids"), record.get("steps"), ("key", "text", "prompt")
    return (
        _is_numbers(ids)
        and _is_numbers(steps)
        and len(ids) == len(steps) > 0
        and all(isinstance(record.get(name), str) for name in texts)
        and all(isinstance(record.get(name), list) for name in ("why", "messages", "tail"))
        and all(isinstance(record.get(name), dict) for name in ("parts", "sampling"))
        and is_number(record.get("num_response"))
    )


def _is_numbers(value: object) -> TypeGuard[list[float]]:
    return isinstance(value, list) and all(map(is_number, cast(list[object], value)))


def _in_turns(**lists: Sequence[Record]) -> Iterator[tuple[str, Record]]:
    named = [[(why, record) for record in records] for why, records in lists.items()]
    return (pair for pair in chain.from_iterable(zip_longest(*named)) if pair)


def _total(record: Record) -> float:
    return total_reward(record["reward"], record["step_map"])


def _key(record: Record) -> str:
    """Return a unique name of a trajectory, stable over redraws.

    A request's seed is derived from run, step, prompt and sample; the samplings of an evaluation
    share their seeds, so their name is part of the key.
    """
    step = record.get("step")
    name = record.get("variation", "response" if step is None else step)
    return f"{name}.{record['sampling'].get('seed')}"


def shown(record: Record, why: Sequence[str] = ()) -> dict[str, Any]:
    """Return the fields of a trajectory that a page holds: the `trajectory` of `<unmask-player>`.

    Args:
        record: a playable trajectory.
        why: the reasons for which it was chosen.
    """
    prompt, sampling = record["prompt"], record["sampling"]
    canvas = record["canvas_ids"]
    block = sampling.get("block_size")
    block = block if isinstance(block, int) and block > 0 else None
    tail = len(prompt["token_ids"]) % block if block else 0
    reward, revisions = record["reward"], record.get("revisions", [])
    return {
        "key": _key(record),
        "why": list(why),
        "step": record.get("step"),
        "variation": str(record.get("variation", "")),
        "task": str(prompt.get("task", "")),
        "uid": str(prompt.get("uid", "")),
        "prompt": _prompt_key(prompt),
        "messages": [_turn(message) for message in prompt["messages"] if isinstance(message, dict)],
        "text": _cut(record["text"]),
        "reward": None if reward is None else _total(record),
        "token_rewards": reward if isinstance(reward, list) else None,
        "parts": {
            str(name): value
            for name, value in dict(record.get("parts") or {}).items()
            if is_number(value)
        },
        "finish": str(record.get("finish", "")),
        "num_response": record["num_response"],
        "policy_version": version if is_number(version := record.get("policy_version")) else None,
        "sampling": {name: value for name, value in sampling.items() if _is_scalar(value)},
        "block": block,
        "pinned": _pinned(sampling.get("pinned"), len(canvas)),
        "tail": prompt["token_ids"][len(prompt["token_ids"]) - tail :],
        "ids": canvas,
        "steps": record["step_map"],
        "logprobs": _rounded(record["behavior_logprobs"]),
        "pieces": _pieces(record.get("pieces"), tail + len(canvas) + len(revisions)),
        **({"revisions": [_revision(one) for one in revisions]} if revisions else {}),
        **_measured(record, len(canvas)),
        **({"drawing": drawn[0]} if (drawn := _images([record.get("drawing")])) else {}),
    }


def _turn(message: Record) -> dict[str, Any]:
    """Return a message with the names and digests of its images, if it has some."""
    turn: dict[str, Any] = {name: _cut(str(message.get(name, ""))) for name in ("role", "content")}
    images = _images(message.get("images"))
    return turn | ({"images": images} if images else {})


def _images(images: object) -> list[dict[str, str]]:
    """Return names and digests of images of a record."""
    found = images_of({"images": images})
    return [{key: _cut(str(one[key])) for key in ("name", "digest")} for one in found]


def _measured(record: Record, count: int) -> dict[str, Any]:
    """Return what was measured at each of `count` positions, as far as it was recorded."""
    found: dict[str, Any] = {}
    raw, advantages = record.get("raw_logprobs"), record.get("advantages")
    if _is_numbers(raw) and len(raw) == count:
        # Without a temperature or a filter a token is drawn from the model's own distribution.
        is_drawn = raw == record["behavior_logprobs"]
        confidences = "logprobs" if is_drawn else _rounded([exp(min(0.0, one)) for one in raw])
        found["confidences"] = confidences
    for name in ("entropies", "values", "advantages"):
        if _is_numbers(measured := record.get(name)) and 0 < len(measured) <= count:
            found[name] = _rounded(measured)
    if is_number(advantages):
        found["advantage"] = advantages
    return found


def _revision(event: Record) -> list[Any]:
    """Return step, position, id and log-probability of an event; the id is None where it masks again."""
    token = None if event.get("kind") == "remask" else event["token"]
    return [event["step"], event["position"], token, round(event["logprob"], 4)]


def _pieces(pieces: object, count: int) -> list[str] | None:
    """Return the text of each token; None if it was not recorded, then the player shows ids."""
    if not isinstance(pieces, list) or len(pieces) != count:
        return None
    return [str(piece) for piece in cast(list[object], pieces)]


def _pinned(pinned: object, count: int) -> list[int]:
    """Return the positions that were given: pairs of position and token."""
    pairs = pinned if isinstance(pinned, list) else []
    places = [pair[0] for pair in cast(list[object], pairs) if isinstance(pair, list) and pair]
    return [place for place in places if isinstance(place, int) and 0 <= place < count]


def _prompt_key(prompt: Record) -> str:
    """Return a name that responses to one prompt share."""
    asked = [prompt.get(name) for name in ("task", "uid", "messages", "token_ids")]
    return blake2b(json_text(asked).encode(), digest_size=6).hexdigest()


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _is_scalar(value: object) -> bool:
    return isinstance(value, str) or is_number(value)


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} [... {len(text) - MAX_CHARACTERS:,} more characters]"
