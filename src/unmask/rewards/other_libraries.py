"""Reward functions in the forms of TRL and verl.

| signature | called as | for |
|---|---|---|
| `trl` | `f(prompts=, completions=, completion_ids=, COLUMN=, ...)`, lists of texts and ids | a round |
| `trl_conversational` | the same, each prompt and completion as messages | a round |
| `verl` | `f(data_source=, solution_str=, ground_truth=, extra_info=)` | each response |
| `verl_batch` | the same with lists, `data_sources=`, ... | a round |

The columns are the fields of `prompt.reference`, without `prompt`, `completion` and `completion_ids`; a prompt
that lacks a field of others, of this round or an earlier one, has `None`. TRL returns a list of numbers or `None`,
verl a number or a table with `score`, whose other numbers are parts of the score. Functions may be `async def`.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.configs.reward_function import Signature
from unmask.rewards.function_process import FunctionProcess, Result
from unmask.rewards.weighted import UNRATED, AnswerGroup
from unmask.types import Prompt, Score

TIME_LIMIT_S = 300.0
OWN_COLUMNS = ("prompt", "completion", "completion_ids")
VERL = ("data_source", "solution_str", "ground_truth", "extra_info")
# Fields of a record that hold verl's ground truth, behind `reward_model.ground_truth`.
TRUTHS = ("ground_truth", "ground_truth_answer", "answer")


@dataclass(frozen=True, slots=True)
class Item:
    """A response to score; `token_ids` where they are at hand."""

    prompt: Prompt
    text: str
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scorer:
    """A function that scores responses: `score` returns their scores in order, `close` ends its process."""

    score: Callable[[Sequence[Item]], list[Score]]
    close: Callable[[], None]


def build_scorer(
    path: str, signature: Signature, time_limit_s: float | None, key: str, is_term: bool
) -> Scorer:
    """Start the process of a function and return its scorer.

    Args:
        path: `module:function`.
        signature: the form of the function.
        time_limit_s: of a call; `TIME_LIMIT_S` if not given.
        key: config key of `path`, for messages.
        is_term: whether it is a term of a reward: responses then have token ids, and may have no number.

    Raises:
        ValueError: there is no such function, or it takes other arguments; or, when it scores, a call failed, or
            returned something else.
    """
    stated, seconds = f"{key} = {path!r}", time_limit_s or TIME_LIMIT_S
    is_trl = signature.startswith("trl")
    given = {
        "trl": ("prompts", "completions", *(["completion_ids"] if is_term else [])),
        "verl": VERL if signature == "verl" else tuple(_plural(name) for name in VERL),
    }["trl" if is_trl else "verl"]
    process = FunctionProcess(path, stated, given, not is_trl, seconds)
    is_chat = signature == "trl_conversational"
    columns = dict[str, None]()  # of all rounds

    def score(items: Sequence[Item]) -> list[Score]:
        if not items:
            return []
        for item in items:
            check_text(item.prompt, stated)
        if signature == "verl":
            calls = [verl_call(item, stated) for item in items]
            found = process.run(calls, [_named(item) for item in items])
            return verl_scores(found, items, stated)
        columns.update((name, None) for item in items for name in item.prompt.reference)
        texts = (items, is_chat, stated, columns)
        call = trl_call(*texts) if is_trl else verl_batch_call(items, stated)
        (result,) = process.run([call], [f"{len(items)} responses"])
        values = listed(result, len(items), seconds, stated)
        if is_trl:
            return [trl_score(*pair, stated, is_term) for pair in zip(values, items, strict=True)]
        return verl_scores(list(map(Result, values)), items, stated)

    return Scorer(score, process.close)


def score_answers(groups: Sequence[AnswerGroup], scorer: Scorer, key: str) -> list[list[Score]]:
    """Return the scores of groups of answers, scored together.

    Raises:
        ValueError: as of the scorer; or an answer is an image.
    """
    answers = [answer for group in groups for answer in group]
    if any(answer.drawing is not None for answer in answers):
        raise ValueError(
            f'{key}: a response that is an image has no text: give a function with signature = "unmask"'
        )
    items = [Item(a.prompt, a.text, a.trajectory.response_ids) for a in answers]
    scores = iter(scorer.score(items))
    return [[next(scores) for _ in group] for group in groups]


def check_text(prompt: Prompt, stated: str) -> None:
    """Refuse a prompt with images.

    Raises:
        ValueError: it has some.
    """
    if any(message.images for message in prompt.messages):
        raise ValueError(
            f'{stated}: prompt {prompt.uid} of task {prompt.task!r} has images, which only signature = "unmask" '
            "passes on"
        )


def trl_call(
    items: Sequence[Item], is_chat: bool, stated: str, names: Iterable[str]
) -> dict[str, Any]:
    """Return the arguments of a function of TRL.

    Args:
        items: the responses.
        is_chat: whether prompts and completions are messages.
        stated: config key and path, for messages.
        names: of the columns.

    Raises:
        ValueError: a column has the name of an argument or holds what JSON does not; or a prompt has several messages
            where texts are asked for.
    """
    columns = {
        name: [item.prompt.reference.get(name) for item in items]
        for name in names
        if name not in OWN_COLUMNS
    }
    for name, column in columns.items():
        _check_json(column, name, stated)
    own: dict[str, Any] = {
        "prompts": [_messages(item.prompt) if is_chat else _text(item, stated) for item in items],
        "completions": [
            [{"role": "assistant", "content": item.text}] if is_chat else item.text
            for item in items
        ],
    }
    if all(item.token_ids is not None for item in items):
        own["completion_ids"] = [list(item.token_ids or ()) for item in items]
    if shared := sorted(own.keys() & columns.keys()):
        raise ValueError(
            f"{stated}: the column {shared[0]} has the name of an argument: rename the field of the records"
        )
    return {**own, **columns}


def verl_call(item: Item, stated: str) -> dict[str, Any]:
    """Return the arguments of a function of verl.

    Raises:
        ValueError: the record has no ground truth, or holds what JSON does not.
    """
    reference = item.prompt.reference
    model = reference.get("reward_model")
    table: Mapping[str, Any] = model if isinstance(model, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]
    truths = [
        *(table[name] for name in ("ground_truth",) if name in table),
        *(reference[name] for name in TRUTHS if name in reference),
    ]
    if not truths:
        raise ValueError(
            f"{stated}: the record of prompt {item.prompt.uid} of task {item.prompt.task!r} has no ground truth: "
            f"give reward_model.ground_truth or {', '.join(TRUTHS)}"
        )
    values = (
        reference.get("data_source", item.prompt.task),
        item.text,
        truths[0],
        reference.get("extra_info") or {},
    )
    call: dict[str, Any] = dict(zip(VERL, values, strict=True))
    for name, value in call.items():
        _check_json(value, name, stated)
    return call


def verl_batch_call(items: Sequence[Item], stated: str) -> dict[str, Any]:
    """Return the arguments of a function of verl's batch form; raises as `verl_call`."""
    calls = [verl_call(item, stated) for item in items]
    return {_plural(name): [call[name] for call in calls] for name in VERL}


def listed(result: Result, count: int, seconds: float, stated: str) -> list[Any]:
    """Return the values of a call for `count` responses.

    Raises:
        ValueError: the call was late, or returned something else than so many values.
    """
    if result.is_late:
        raise ValueError(
            f"{stated}: a call for {count} responses took more than {seconds:g} s: raise the time limit"
        )
    values: Any = result.value
    if not isinstance(values, list) or len(values) != count:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(
            f"{stated} returned {values!r:.80}: must be a list of {count} numbers, one for each response"
        )
    return values  # pyright: ignore[reportUnknownVariableType]


def trl_score(value: Any, item: Item, stated: str, is_term: bool) -> Score:
    """Return the score of a value; `None` adds nothing to a weighted sum, and is counted.

    Raises:
        ValueError: it is no finite number; or `None`, where there is no other term.
    """
    if value is None and is_term:
        return Score(0.0, {UNRATED: 1.0})
    return Score(_number(value, item, stated), {UNRATED: 0.0} if is_term else {})


def verl_scores(results: Sequence[Result], items: Sequence[Item], stated: str) -> list[Score]:
    """Return the scores of numbers or tables.

    A response whose call was late earns 0, or the lowest score of the others where that is negative: a response
    that keeps the function busy would be paid for it otherwise. It is counted.

    Raises:
        ValueError: a score is no finite number, or a table has no `score`.
    """
    found = [
        None if result.is_late else _verl_score(result.value, item, stated)
        for result, item in zip(results, items, strict=True)
    ]
    least = min([0.0, *(number for number, _ in filter(None, found))])
    late = least, {"late": 1.0}
    return [
        Score(*late) if pair is None else Score(pair[0], {"late": 0.0, **pair[1]}) for pair in found
    ]


def _verl_score(value: Any, item: Item, stated: str) -> tuple[float, dict[str, float]]:
    """Return the score and its parts."""
    if not isinstance(value, dict):
        return _number(value, item, stated), {}
    parts: dict[str, Any] = {**value}
    if "score" not in parts:
        raise ValueError(
            f"{stated} returned a table without a number score, {value!r:.80}, for {_named(item)}"
        )
    reward = _number(parts.pop("score"), item, stated)
    return reward, {name: _number(one, item, f"{stated}, {name}:") for name, one in parts.items()}


def _number(value: Any, item: Item, stated: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(
            f"{stated} returned {value!r:.80} for {_named(item)}: a reward must be a finite number"
        )
    return float(value)


def _check_json(value: Any, name: str, stated: str) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{stated}: the field {name} of a record cannot be passed to another process: {error}"
        ) from None


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in prompt.messages]


def _text(item: Item, stated: str) -> str:
    messages = item.prompt.messages
    if len(messages) != 1:
        raise ValueError(
            f"{stated}: prompt {item.prompt.uid} of task {item.prompt.task!r} has {len(messages)} messages, and "
            'the form "trl" has one text: give signature = "trl_conversational"'
        )
    return messages[0].content


def _named(item: Item) -> str:
    return f"a response to prompt {item.prompt.uid} of task {item.prompt.task!r}"


def _plural(name: str) -> str:
    """Return the name of an argument in verl's batch form."""
    return f"{name}s"
