"""`unmask show`: prints trajectories with the denoising step that revealed each token.

On a terminal with colours each token has the colour of its denoising step, from blue (first) over
green to red (last). Elsewhere each token is printed with its step in front, `2:"5" 1:";"`, so that
the order can be cut and grepped. `|` separates blocks, which lie on one grid that starts with the
prompt. Where a token was overwritten or masked again, its earlier writes stand before it,
`1:"5">3:_>4:"7"`, and on a terminal it is underlined.

A response may contain terminal control sequences: control characters are printed as pictures and
never reach the terminal.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.style import Style
from rich.text import Text

from unmask.images import MARKER
from unmask.json_files import MAX_BYTES, read_objects
from unmask.runs.gradings import read_verdicts, with_verdict
from unmask.runs.read import read_lines
from unmask.runs.trajectories import total_reward

Record = Mapping[str, Any]
# Maps token ids to the piece of text that each of them adds.
Pieces = Callable[[Sequence[int]], list[str]]
Order = Literal["worst", "best", "sample"]

# Blue, cyan, green, yellow, red: bright enough on black, dark enough on white.
RAMP = ((70, 120, 255), (0, 165, 200), (60, 170, 70), (215, 150, 0), (235, 70, 60))
# C0 and C1 controls and bidirectional marks; line breaks are kept.
CONTROLS = {
    **{code: 0x2400 + code for code in range(32)},
    127: 0x2421,
    **dict.fromkeys((*range(128, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}
del CONTROLS[ord("\n")]


def read_step(path: Path, step: int | None = None) -> list[Record]:
    """Return the trajectories of a step, in the order of a `trajectories.jsonl`.

    Args:
        path: the file.
        step: optimizer step; the last one by default.

    Raises:
        ValueError: the file is missing or damaged, or has no trajectory of that step.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a run writes it unless run.trajectories = 0")
    found: list[Record] = []
    seen: list[int] = []
    verdicts = read_verdicts(path.parent)
    for record in read_lines(path):
        if not seen or record["step"] != seen[-1]:
            seen.append(record["step"])
            found = [] if step is None else found
        if step is None or record["step"] == step:
            found.append(with_verdict(record, verdicts))
    if not found:
        steps = f"it has steps {min(seen)} to {max(seen)}" if seen else "it is empty"
        raise ValueError(f"--step {step}: {path} has no trajectory of that step; {steps}")
    return found


def read_trajectories(path: Path) -> list[Record] | None:
    """Return the records of a JSON Lines file that `unmask generate` or `unmask chat` wrote.

    Returns:
        `None` if its first line is no such record.

    Raises:
        ValueError: a later line is not a JSON object; names file and line.
    """
    with path.open("rb") as file:
        first = file.readline(MAX_BYTES)
    if not (first.startswith(b"{") and b'"canvas_ids"' in first):
        return None
    return [*read_objects(path)]


def choose(records: Sequence[Record], order: Order, count: int) -> list[Record]:
    """Return the `count` records of lowest or highest reward, or a random sample in file order.

    Raises:
        ValueError: records are sorted by reward and one has no reward.
    """
    if order == "sample":
        places = range(len(records))
        drawn = random.Random(0).sample(places, min(count, len(records)))
        return [records[place] for place in sorted(drawn)]
    if any(record["reward"] is None for record in records):
        raise ValueError(f"--{order}: there are no rewards to sort by; use --sample {count}")
    return sorted(records, key=_reward, reverse=order == "best")[:count]


def print_trajectories(
    records: Iterable[Record], pieces: Pieces | None = None, console: Console | None = None
) -> None:
    """Print trajectories one after the other.

    Args:
        records: as `trajectory_record` makes them.
        pieces: tokenizer of the model, for records without recorded pieces; without it, tokens are
            printed as ids.
        console: standard output by default.
    """
    out = console or Console(highlight=False)
    in_color = out.is_terminal and not out.no_color
    for number, record in enumerate(records, start=1):
        lines = [_heading(number, record), *_prompt_lines(record)]
        if in_color and (tokens := _tokens(record, pieces)):
            lines += [Text("response"), _colored(record, tokens), _legend(record)]
        else:
            order = _numbered(record, _tokens(record, pieces))
            lines += [_labelled("response", record["text"])]
            lines += [Text(f"order     {order}")] if order else []
        for line in [*lines, Text()]:
            # Not wrapped: a line break of the console would look like one of the response.
            out.print(line, soft_wrap=True)


def visible(text: str) -> str:
    """Return a text with control characters replaced by pictures; line breaks are kept."""
    return text.translate(CONTROLS)


def _reward(record: Record) -> float:
    return float(total_reward(record["reward"], record["step_map"]))


def _heading(number: int, record: Record) -> Text:
    prompt, facts = record["prompt"], []
    if "variation" in record:
        facts.append(f"{visible(record['variation'])}, problem {record['problem']}")
    elif record["step"] is not None:
        facts.append(f"step {record['step']}")
    facts.append("no reward" if record["reward"] is None else f"reward {_reward(record):.4g}")
    facts += [f"{visible(name)} {value:.4g}" for name, value in record["parts"].items()]
    facts.append(
        f"{record['num_response']} tokens in {record['num_denoising_steps']} denoising steps"
    )
    if record.get("finish"):
        facts.append(f"ended by {record['finish']}")
    facts.append(f"{visible(prompt['task'])} {prompt['uid']}")
    return Text(f"#{number}  {', '.join(facts)}", style="bold")


def _prompt_lines(record: Record) -> list[Text]:
    lines = [_labelled(m["role"], _content(m)) for m in record["prompt"]["messages"]]
    if "answer" in record:
        lines.append(_labelled("answer", record["answer"]))
    return lines


def _content(message: Record) -> str:
    """Return the content of a message with the names of its images in the places of their markers."""
    text = message["content"]
    for image in message.get("images", ()):
        text = text.replace(MARKER, f"[{image['name']}]", 1)
    return text


def _labelled(label: str, text: str) -> Text:
    """Return a text after its label; several lines are indented below the label."""
    shown = visible(text)
    if "\n" not in shown:
        return Text(f"{label:<10}{shown}".rstrip())
    indented = "\n".join(f"  {line}".rstrip() for line in shown.split("\n"))
    return Text(f"{label}\n{indented}")


def _tokens(record: Record, pieces: Pieces | None) -> list[str]:
    """Return the text of each response token, then that of each token of `revisions`."""
    ids = record["canvas_ids"][: record["num_response"]]
    revised = [revision["token"] for revision in record.get("revisions", ())]
    if "pieces" in record:
        # Pieces begin with the prompt tokens of the first block, see `trajectories.grid_ids`.
        tail = len(record["prompt"]["token_ids"]) % (record["sampling"].get("block_size") or 1)
        found, first = record["pieces"], tail + len(record["canvas_ids"])
        return found[tail : tail + len(ids)] + found[first : first + len(revised)]
    if pieces is None or not ids:
        return [f"#{token_id}" for token_id in ids + revised]
    return pieces(ids + revised)


def _earlier(record: Record, tokens: Sequence[str]) -> dict[int, list[str]]:
    """Return what stood at each revised position, in the order of denoising steps."""
    found: dict[int, list[str]] = {}
    for number, revision in enumerate(record.get("revisions", ()), record["num_response"]):
        piece = _quoted(tokens[number]) if tokens else ""
        shown = "_" if revision["kind"] == "remask" else piece
        found.setdefault(revision["position"], []).append(f"{revision['step']}:{shown}")
    return found


def _quoted(token: str) -> str:
    return json.dumps(visible(token), ensure_ascii=False)


def _positions(record: Record) -> Iterator[tuple[int, bool]]:
    """Yield the denoising step of each response position, and whether a later block begins there."""
    size = record["sampling"].get("block_size")
    first = len(record["prompt"]["token_ids"])
    for place, step in enumerate(record["step_map"][: record["num_response"]]):
        # The grid of blocks starts with the prompt, so a position's block counts the prompt too.
        yield step, bool(size) and place > 0 and (first + place) % size == 0


def _numbered(record: Record, tokens: Sequence[str]) -> str:
    """Return `2:"5" | 1:";">3:"0"`, or only the steps if there are no tokens."""
    words, earlier = list[str](), _earlier(record, tokens)
    for place, (step, is_border) in enumerate(_positions(record)):
        words += ["|"] if is_border else []
        now = f"{step}:{_quoted(tokens[place])}" if tokens else str(step)
        words.append(">".join((*earlier.get(place, ()), now)))
    return " ".join(words)


def _colored(record: Record, tokens: Sequence[str]) -> Text:
    last, earlier = record["num_denoising_steps"], _earlier(record, tokens)
    text = Text("  ")
    for place, (step, is_border) in enumerate(_positions(record)):
        if is_border:
            text.append("|", style="dim")
        style = _style(step, last) + Style(underline=place in earlier or None)
        text.append(visible(tokens[place]).replace("\n", "\n  "), style=style)
    return text


def _legend(record: Record) -> Text:
    last = record["num_denoising_steps"]
    text = Text("denoising step ")
    shown = sorted({round(1 + i * (last - 1) / 8) for i in range(9)}) if last else []
    for step in shown:
        text.append(f" {step}", style=_style(step, last))
    if record.get("revisions"):
        text.append("  written again", style=Style(underline=True))
    return text


def _style(step: int, last: int) -> Style:
    """Return the colour of a denoising step among `last`; a position never revealed is dim."""
    if step < 1:
        return Style(dim=True)
    place = (step - 1) / max(last - 1, 1) * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    red, green, blue = (
        round(a + (b - a) * (place - low)) for a, b in zip(RAMP[low], RAMP[low + 1], strict=True)
    )
    return Style(color=f"rgb({red},{green},{blue})")
