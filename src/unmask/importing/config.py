"""Translation of a dLLM-RL configuration: `unmask config import FILE.yaml`.

Every key of the file has one of four fates (`table.py`): it becomes a line; it does not change results;
unmask differs by design, as the documentation lists; or the run would differ from the file, and the
import is refused. A key without a row is refused too. A lossy import writes the file anyway, with a
remark on each loss.

Lists in the evaluated section stand for several evaluations, which become variations.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unmask.configs.eval import EvalConfig
from unmask.configs.keys import to_toml
from unmask.configs.load import config_from, flatten
from unmask.configs.rl import RLConfig
from unmask.configs.section import Section
from unmask.configs.sft import SFTConfig
from unmask.importing.rules import (
    MODELS,
    NOTHING,
    Fate,
    Kind,
    Loss,
    Rule,
    Source,
)
from unmask.importing.table import IMPLIED, RULES

CLASSES: dict[Kind, type[Section]] = {"sft": SFTConfig, "rl": RLConfig, "eval": EvalConfig}
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
# Numbers to OmegaConf, but not to YAML 1.1.
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", re.ASCII)
# dLLM-RL's section -> unmask's section, for remarks on losses without a line.
SECTIONS = {"rollout": "sampling", "evaluation": "eval.sampling", "dataset": "task"}
DOCUMENT = "docs/coming-from-dllm-rl.md"
UNREAD = "the published code does not read it for such a file"
REASONS = {
    "idle": "no effect on results",
    "otherwise": f"otherwise here, by design (see {DOCUMENT})",
}
FIRST = "unmask rl measures the first; an import with --kind eval measures each"
Lines = dict[str, tuple[Any, str]]  # unmask's key -> (value, remark)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The translation of one key of the file.

    Attributes:
        old: the key.
        value: its value.
        fate: line, idle, otherwise or lost.
        note: the remark of its line, or the reason for having none.
        lines: unmask's keys and values; of a lost key, the lines of a lossy import.
    """

    old: str
    value: Any
    fate: Fate
    note: str
    lines: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def remark(self) -> str:
        """The key with its note."""
        if self.fate == "lost":
            return f"{self.old} = {_shown(self.value)}: {self.note}"
        return f"{self.old}; {self.note}" if self.note else self.old


def kind_of_foreign(table: Mapping[str, Any]) -> Kind:
    """Return the kind of a dLLM-RL file: training on rollouts, on data, or an evaluation.

    Raises:
        ValueError: it has none of the sections that decide.
    """
    if "training" in table:
        return "rl" if "rollout" in table else "sft"
    if "rollout" in table:
        return "eval"
    raise ValueError(
        "the file has neither a training nor a rollout section, so it is not a configuration of "
        "dLLM-RL; give the kind: --kind rl"
    )


def translate(
    table: Mapping[str, Any],
    kind: Kind | None = None,
    base: str | None = None,
    devices: int | None = None,
    is_lossy: bool = False,
) -> tuple[str, list[str]]:
    """Return a dLLM-RL configuration as unmask's TOML, and a summary of the keys without a line.

    Args:
        table: the parsed YAML.
        kind: the command that the result is for; derived from the file by default.
        base: kind of model, for a file that does not name it.
        devices: number of devices the file was run on.
        is_lossy: write keys that would run differently, with a remark, instead of refusing the file.

    Raises:
        ValueError: the run would differ and `is_lossy` is false, or a value is not allowed.
    """
    flat = dict(flatten(table))
    keys = {name: _resolve(name, value, flat) for name, value in flat.items()}
    source = Source(kind or kind_of_foreign(table), _model_kind(keys, base), keys, devices)
    variants = _variants(source)
    outcomes = [[_outcome(*pair, it) for pair in it.keys.items()] for it in variants]
    lines = [_lines(*pair) for pair in zip(variants, outcomes, strict=True)]
    merged = lines[0] if source.kind == "rl" else _variations(lines)
    reported = list(outcomes[0])
    if source.kind == "rl":
        lists = (name for name in _lists(source) if len(keys[name]) > 1)
        reported += [Outcome(name, keys[name], "otherwise", FIRST) for name in lists]
    else:
        reported += [
            o for other in outcomes[1:] for o in other if o.fate == "lost" and o not in reported
        ]
    losses = [outcome.remark for outcome in reported if outcome.fate == "lost"]
    if losses and not is_lossy:
        head = "these keys would not run as in the file; --lossy writes them anyway:"
        raise ValueError("\n".join([head, *losses]))
    sources = [(remark, {new: value}) for new, (value, remark) in merged.items()]
    config_from(CLASSES[source.kind], sources)
    return _text(source.kind, merged, reported), [
        *_summary(reported),
        *(f"lost: {it}" for it in losses),
    ]


def _resolve(name: str, value: Any, flat: Mapping[str, Any], seen: Sequence[str] = ()) -> Any:
    """Follow `${section.key}`, as OmegaConf does."""
    if isinstance(value, list):
        return [_resolve(name, item, flat, seen) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return float(value) if NUMBER.fullmatch(str(value)) else value
    found = REFERENCE.fullmatch(value)
    if found is None or found[1] not in flat or found[1] in (name, *seen):
        raise ValueError(f"{name} = {_shown(value)}: must name one other key that has a value")
    return _resolve(name, flat[found[1]], flat, (*seen, found[1]))


def _model_kind(keys: Mapping[str, Any], given: str | None) -> str:
    """Return the kind of model: from the file, from `--base`, or from a word of its name."""
    stated = keys.get("model.model_base", keys.get("model_base"))
    words = str(keys.get("experiment.project")).split("_")
    named = next((word for word in words if word in MODELS), None)
    if stated is not None and given is not None and stated != given:
        raise ValueError(f"--base {given}: the file has model_base = {_shown(stated)}")
    found = stated or given or named
    if found not in MODELS:
        raise ValueError(
            f"model_base = {_shown(found)}: must be one of {', '.join(MODELS)}; if the file has "
            "none, give --base"
        )
    return found


def _rules_of(name: str) -> list[Rule]:
    """Return the rows of a key, or else those of its section."""
    exact = [rule for rule in RULES if rule.old == name]
    return exact or [r for r in RULES if r.old.endswith(".*") and name.startswith(r.old[:-1])]


def _lists(source: Source) -> list[str]:
    """Return the keys that have a value for each of several evaluations."""
    return [
        name
        for name, value in source.keys.items()
        if isinstance(value, list)
        and name.startswith(f"{source.sampled}.")
        and all(rule.takes != "list" for rule in _rules_of(name))
    ]


def _variants(source: Source) -> list[Source]:
    """Return one file per evaluation, with one value in place of each list."""
    names = _lists(source)
    sizes = {len(source.keys[name]) for name in names} - {1}
    if len(sizes) > 1 or 0 in sizes:
        stated = ", ".join(f"{name} = {_shown(source.keys[name])}" for name in names)
        raise ValueError(
            f"{stated}: lists stand for several evaluations and must have equal lengths"
        )
    chosen = [
        {name: source.keys[name][index % len(source.keys[name])] for name in names}
        for index in range(max(sizes, default=1))
    ]
    return [replace(source, keys={**source.keys, **values}) for values in chosen]


def _outcome(name: str, value: Any, source: Source) -> Outcome:
    """Apply the first row of a key that fits the file."""
    rows = _rules_of(name)
    if not rows:
        is_section = any(rule.old.startswith(f"{name}.") for rule in RULES)
        fate: Fate = "idle" if is_section and value in (None, {}) else "lost"
        return Outcome(name, value, fate, "dLLM-RL has no such key")
    rule = next((row for row in rows if source.traits.issuperset(row.readers.split())), None)
    if rule is None:
        return Outcome(name, value, "idle", UNREAD)
    if value is None and rule.takes != "null":
        return Outcome(name, value, "idle", "no value is given")
    if isinstance(value, list | dict) and rule.takes != "list":
        return Outcome(name, value, "lost", "must be one value")
    result = rule.convert(value, source, name.partition(".")[0])
    if isinstance(result, Loss):
        nearest = {} if result.nearest is NOTHING else dict.fromkeys(rule.new, result.nearest)
        return Outcome(name, value, "lost", result.reason, nearest)
    if result is NOTHING or not rule.new:
        return Outcome(name, value, "otherwise" if rule.fate == "otherwise" else "idle", rule.note)
    lines = result if isinstance(result, dict) else dict.fromkeys(rule.new, result)
    return Outcome(name, value, "line", rule.note, lines)


def _lines(source: Source, outcomes: Sequence[Outcome]) -> Lines:
    """Return all lines of a file: those of its keys, then what is implied."""
    lines: Lines = {}
    for outcome in outcomes:
        mark = "LOST " if outcome.fate == "lost" else ""
        for new, value in outcome.lines.items():
            lines.setdefault(new, (value, f"{mark}{outcome.remark}"))
    for row in IMPLIED:
        if source.traits.issuperset(row.readers.split()):
            lines.setdefault(row.new, (row.value, f"without a key there: {row.note}"))
    return lines


def _variations(lines: Sequence[Lines]) -> Lines:
    """Return the lines of all evaluations: shared ones, and the others under the variation's name."""
    found = {
        new: line
        for new, line in lines[0].items()
        if all(new in other and other[new][0] == line[0] for other in lines)
    }
    names = [str(own.get("sampling.strategy", ("sampling",))[0]) for own in lines]
    for number, (name, own) in enumerate(zip(names, lines, strict=True), start=1):
        unique = name if names.count(name) == 1 else f"{name}_{number}"
        for new in [new for new in own if new not in found]:
            if not new.startswith("sampling."):
                raise ValueError(f"{own[new][1]}: must be one value for all evaluations")
            found[f"variations.{unique}{new.removeprefix('sampling')}"] = own[new]
    return found


def _text(kind: Kind, lines: Lines, outcomes: Sequence[Outcome]) -> str:
    """Return the file: its lines by section, and each loss in its section."""
    entries = [(new, f"{new} = {to_toml(v)}  # {remark}") for new, (v, remark) in lines.items()]
    lost = [outcome for outcome in outcomes if outcome.fate == "lost" and not outcome.lines]
    for outcome in lost:
        section, _, key = outcome.old.partition(".")
        entries.append((f"{SECTIONS.get(section, section)}.{key}", f"# LOST {outcome.remark}"))
    entries.sort(key=lambda entry: entry[0].split(".")[:-1])
    head = f"# A configuration of dLLM-RL, for `unmask {kind}`; see {DOCUMENT}."
    return "\n".join([head, "", *(text for _, text in entries)])


def _summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the keys without a line, by reason."""
    groups: dict[str, list[str]] = {}
    for outcome in outcomes:
        reason = outcome.note if outcome.note in (UNREAD, FIRST) else REASONS.get(outcome.fate)
        if reason is not None:
            groups.setdefault(reason, []).append(outcome.old)
    return [f"{reason}: {', '.join(names)}" for reason, names in groups.items()]


def _shown(value: Any) -> str:
    return "null" if value is None else to_toml(value)
