"""The model card of an export: `README.md`, its metadata first, as the Hub reads it.

All of it comes from files: the runs' configuration, metrics and digests of data, and evaluations. What no file
states is left out: no licence is invented, and no number is repeated without the run that measured it. Keys that
hold paths or addresses of a machine are not printed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unmask.configs.keys import to_toml
from unmask.configs.load import flatten
from unmask.exporting.origin import Origin
from unmask.models.spec import ModelSpec
from unmask.runs.defaults import changed_keys
from unmask.runs.format import format_number, format_share
from unmask.runs.read import Record, RunFiles, check_run, is_interval, is_number, read_run, subtable

# Which code opens the result: the family's, our modelling file, or peft on the base model's.
Code = Literal["published", "own", "adapter"]

NAMES = {"sft": "supervised fine-tuning", "rl": "reinforcement learning"}
# Sections and keys of a configuration that describe the method.
METHOD = {"steps", "epochs", "minibatches", "lora", "views", "advantage", "loss"}
METHOD_OF_RL = {"rollout", "sampling", "filter", "shaping", "optimizer"}
# Sections of which only numbers are printed: their texts may be paths.
NUMBERS = {"data", "task"}
PLACES = {"path", "head_path", "offload", "workers"}
CHOICES = ("views", "advantage", "loss")
LAST_METRICS = ("reward", "accuracy", "loss")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card states.

    Attributes:
        name: directory of the model, or its repository on the Hub.
        origin: the runs and the base model.
        spec: of the model.
        num_parameters: numbers in its weights.
        code: which code opens it.
        licence: identifier of the Hub; `None` where none is stated.
        auto: class of transformers that opens it.
        evaluations: runs of `unmask eval`.
    """

    name: str
    origin: Origin
    spec: ModelSpec
    num_parameters: int
    code: Code
    licence: str | None
    auto: str
    evaluations: Sequence[RunFiles]


@dataclass(frozen=True, slots=True)
class Result:
    """One measured accuracy.

    Attributes:
        task: what was measured on.
        sampling: name of the sampling; empty where there is one only.
        accuracy: share of correct responses.
        interval: its 95 % interval, where it is recorded.
    """

    task: str
    sampling: str
    accuracy: float
    interval: Sequence[float] | None


def read_evaluations(paths: Sequence[Path]) -> list[RunFiles]:
    """Return finished runs of `unmask eval`.

    Raises:
        ValueError: naming a directory that is none.
    """
    for path in paths:
        check_run(path)
    runs = [read_run(path) for path in paths]
    for run in runs:
        if run.kind != "eval" or not run.samplings:
            raise ValueError(f"--evaluation {run.path}: is no finished run of `unmask eval`")
    return runs


def card_text(facts: Facts) -> str:
    """Return the card of a model: metadata between two lines of dashes, then Markdown."""
    from huggingface_hub import EvalResult, ModelCardData

    results = list(_results(facts))
    datasets = [name for run in facts.origin.runs for name in _hub_sets(run)]
    is_derived = facts.origin.base is not None and (facts.origin.runs or facts.code == "adapter")
    relation = "adapter" if facts.code == "adapter" else "finetune"
    data = ModelCardData(
        base_model=facts.origin.base,
        base_model_relation=relation if is_derived else None,
        datasets=list(dict.fromkeys(datasets)) or None,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=result.task,
                dataset_name=result.task,
                dataset_config=result.sampling or None,
                metric_type="accuracy",
                metric_value=round(result.accuracy, 4),
            )
            for result in results
        ]
        or None,
        library_name="peft" if facts.code == "adapter" else "unmask",
        license=facts.licence,
        model_name=facts.name if results else None,
        pipeline_tag="text-generation",
        tags=["unmask", "diffusion-language-model", facts.spec.family, *_methods(facts)],
    )
    sections = [
        f"# {facts.name.rpartition('/')[2]}\n\n{_introduction(facts)}",
        f"## Use\n\n{_use(facts)}",
        _training(facts.origin.runs),
        _evaluation(results),
        f"## Licence\n\n{_licence(facts)}",
    ]
    return f"---\n{data}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _methods(facts: Facts) -> list[str]:
    return [str(run.kind) for run in facts.origin.runs if run.kind in NAMES][:1]


def _introduction(facts: Facts) -> str:
    spec, base = facts.spec, facts.origin.base
    block = f" in blocks of {spec.block_size}" if spec.block_size and not spec.is_full else ""
    made = "" if base is None else f", made from [{base}](https://huggingface.co/{base})"
    predicts = "i + 1" if spec.is_shifted else "i"
    return (
        f"A diffusion language model{made}: it writes text by revealing masked tokens. Architecture "
        f"`{spec.family}`, {facts.num_parameters:,} parameters, {spec.attention.replace('_', '-')} attention"
        f"{block}; row i of its logits predicts token {predicts}; the id of the mask token is {spec.mask_id}."
    )


def _use(facts: Facts) -> str:
    name, base = facts.name, facts.origin.base
    if facts.code == "adapter":
        lines = [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f'base = AutoModelForCausalLM.from_pretrained("{base}", trust_remote_code=True)',
            f'model = PeftModel.from_pretrained(base, "{name}")',
        ]
        commands = f'unmask generate {base} "3+4+5=" --adapter {name}'
        code = "the base model's code"
    else:
        lines = [
            f"from transformers import {facts.auto}, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
            f'model = {facts.auto}.from_pretrained("{name}", trust_remote_code=True)',
        ]
        commands = f'unmask generate {name} "3+4+5="\nunmask serve {name}'
        code = "the modelling code that its authors published"
    if facts.code == "own":
        lines.append('logits = model(tokenizer("3+4+5=", return_tensors="pt").input_ids).logits')
        code = "`modeling_unmask.py`, which reads text only"
    python = "\n".join(lines)
    return (
        f"```python\n{python}\n```\n\nThis runs {code}. `unmask` samples from it and serves it with OpenAI's API:"
        f"\n\n```bash\n{commands}\n```"
    )


def _training(runs: Sequence[RunFiles]) -> str:
    """Return a paragraph, a table and the data of each run, in the order in which they ran."""
    parts: list[str] = []
    for run in reversed(runs):
        title = NAMES.get(run.kind or "", "a run").capitalize()
        chosen = [
            f"{name} `{kind}`"
            for name in CHOICES
            if (kind := subtable(run.config, name).get("kind"))
        ]
        last = [
            f"{name.replace('_', ' ')} {format_number(value)}"
            for name in LAST_METRICS
            if is_number(value := run.last_metrics.get(name))
        ]
        lines = [f"- Method: {', '.join(chosen)}"] if chosen else []
        lines.append(f"- Steps: {run.step}" + (f"; last {', '.join(last)}" if last else ""))
        lines += [f"- Data: {source}" for source in _sources(run)]
        lines.append(f"- unmask {run.environment.get('unmask', '(version not recorded)')}")
        table = "\n".join(f"| `{name}` | `{value}` |" for name, value in _settings(run))
        details = f"\n\n| key | value |\n|---|---|\n{table}" if table else ""
        parts.append(f"### {title}\n\n" + "\n".join(lines) + details)
    return "## Training\n\n" + "\n\n".join(parts) if parts else ""


def _settings(run: RunFiles) -> Iterator[tuple[str, str]]:
    """Yield the keys of the method that are not the defaults."""
    changed = changed_keys(run.config, run.kind)
    for name, value in flatten(run.config):
        section, leaf = name.partition(".")[0], name.rpartition(".")[2]
        is_size = section in NUMBERS and isinstance(value, int | float)
        is_method = section in METHOD | METHOD_OF_RL and leaf not in PLACES
        if name in changed and value is not None and (is_size or is_method):
            yield name, to_toml(value).replace("|", "\\|")


def _records(run: RunFiles) -> Iterator[Record]:
    """Yield the tables that name a set of records."""
    data: Record = subtable(run.config, "data")
    yield data
    sources: Any = data.get("sources") or []
    yield from (source for source in sources if isinstance(source, dict))


def _hub_sets(run: RunFiles) -> list[str]:
    return [str(source["hub"]) for source in _records(run) if source.get("hub")]


def _sources(run: RunFiles) -> Iterator[str]:
    """Yield what a run learned from: data sets of the Hub, a task, and files with the digests it recorded."""
    yield from (f"[{name}](https://huggingface.co/datasets/{name})" for name in _hub_sets(run))
    task = subtable(run.config, "task")
    if stated := task.get("name") or task.get("kind"):
        yield f"task `{stated}`"
    for place, digest in subtable(run.environment, "data").items():
        yield f"`{Path(place.partition(' = ')[2]).name}` (SHA-256 `{digest}`)"


def _results(facts: Facts) -> Iterator[Result]:
    """Yield the accuracies of evaluations, and of the last run where it measured one."""
    for run in facts.evaluations:
        for name, found in run.samplings.items():
            if is_number(accuracy := found.get("accuracy")):
                interval = found.get("ci95")
                sampling = name if len(run.samplings) > 1 else ""
                yield Result(
                    run.task, sampling, accuracy, interval if is_interval(interval) else None
                )
    if not facts.evaluations and facts.origin.runs:
        last = facts.origin.runs[0]
        found = last.last_metrics
        if is_number(accuracy := found.get("eval_accuracy")):
            interval = [found.get("eval_accuracy_low"), found.get("eval_accuracy_high")]
            yield Result(last.task, "", accuracy, interval if is_interval(interval) else None)


def _evaluation(results: Sequence[Result]) -> str:
    if not results:
        return ""
    rows = [
        f"| {result.task} | {result.sampling or '-'} | {format_share(result.accuracy)} | "
        + (" to ".join(map(format_share, result.interval)) if result.interval else "-")
        + " |"
        for result in results
    ]
    head = "| task | sampling | accuracy | 95 % interval |\n|---|---|---|---|"
    return "## Evaluation\n\n" + "\n".join([head, *rows])


def _licence(facts: Facts) -> str:
    if facts.licence is None:
        return "Not stated: ask the authors of the base model and of this one."
    text = f"The weights: `{facts.licence}`."
    return text + (" `modeling_unmask.py`: Apache-2.0." if facts.code == "own" else "")
