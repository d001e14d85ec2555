"""The table of `docs/gpu.md` and that of the README, from the committed results of a CUDA device.

A result on a CPU or at toy sizes is no measurement and never stands in a table; a part without a result at full size
from a CUDA device was "never run".
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Console

from tools.gpu.harness import GROUPS, Listed, list_parts
from tools.gpu.results import MERGED, ROOT, Result, read_results

PAGE = ROOT / "docs" / "gpu.md"
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
BEGIN = "<!-- written by tools/gpu_check --table -->"
END = "<!-- end of what tools/gpu_check --table writes -->"
HEADINGS = {
    "correctness": "Is it right",
    "speed": "How fast is it",
    "learning": "Does it learn",
    "published": "Against published code",
}


def write(console: Console) -> int:
    """Write the table into the page, print the README's, and return the exit code."""
    listed, results = list_parts(), measured()
    before, after = outside(PAGE.read_text())
    PAGE.write_text(before + tables(listed, results) + after)
    console.print(overview(listed, results), markup=False, soft_wrap=True)
    return 0


def outside(text: str) -> tuple[str, str]:
    """Return the text of the page up to the generated part, and after it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n", f"{END}{after}"


def measured() -> dict[str, Result]:
    """Return the committed results at full size from a CUDA device."""
    found = read_results(RESULTS / MERGED)
    return {n: r for n, r in found.items() if r.device == "cuda" and not r.is_tiny}


def tables(listed: Sequence[Listed], results: Mapping[str, Result]) -> str:
    """Return the generated part of the page: a table per group."""
    text = ""
    for group, parts in groupby(sorted(listed, key=_group), key=lambda part: part.group):
        text += f"\n### {HEADINGS[group]}\n\n| part | what | result | where |\n|---|---|---|---|\n"
        for part in parts:
            found = results.get(part.name)
            result, where = ("never run", "") if found is None else (_result(found), _where(found))
            text += f"| `{part.name}` | {_cell(part.title)} | {_cell(result)} | {_cell(where)} |\n"
    return text + "\n"


def overview(listed: Sequence[Listed], results: Mapping[str, Result]) -> str:
    """Return the table of the README: parts by group and result, and where they ran."""
    text = (
        "| | parts | passed | failed | measured | never run | on |\n|---|---|---|---|---|---|---|\n"
    )
    for group in GROUPS:
        names = [part.name for part in listed if part.group == group]
        found = [results[name] for name in names if name in results]
        count = {s: sum(r.status == s for r in found) for s in ("passed", "failed", "measured")}
        counts = [len(names), *count.values(), len(names) - sum(count.values())]
        on = ", ".join(sorted({f"{r.machine['card']}, torch {r.machine['torch']}" for r in found}))
        text += f"| {HEADINGS[group]} | {' | '.join(map(str, counts))} | {on or '-'} |\n"
    return text


def _group(part: Listed) -> int:
    return GROUPS.index(part.group)


def _result(result: Result) -> str:
    return result.summary if result.status == "measured" else f"{result.status}: {result.summary}"


def _where(result: Result) -> str:
    machine = result.machine
    return (
        f"{machine['card']}, driver {machine['driver']}, torch {machine['torch']}, "
        f"triton {machine['triton']}, {result.date[:10]}, {result.code.commit}"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
