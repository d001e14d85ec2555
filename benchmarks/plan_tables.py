"""The tables of `docs/plan.md`: plans of published models and of recipes on H100, and the errors of `plan_error.py`.

    python benchmarks/plan_tables.py                # seconds; writes them into the page

A test compares the page with what this program would write.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.planning.devices import device_named
from unmask.planning.job import Config, Lengths
from unmask.planning.plan import Case, Plan, spec_of
from unmask.planning.remedies import remedies
from unmask.planning.report import duration, gib

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plan.md"
RESULTS = ROOT / "benchmarks" / "results" / "plan_error.json"
PLANS, RECIPES, ERRORS = (
    f"<!-- {name}: written by benchmarks/plan_tables.py -->"
    for name in ("plans", "recipes", "errors")
)
END = "<!-- end of what it writes -->"
MODELS = ("JetLM/SDAR-1.7B-Chat", "JetLM/SDAR-8B-Chat", "JetLM/SDAR-30B-A3B-Chat")
DEVICES = (8, 64, 512)
LENGTHS = {"rl": Lengths(256, 1024, 1.5), "sft": Lengths(256, 512, 1.5)}
WORDS = {"rl": (), "sft": ("data.batch_size=1024",)}
# Of a recipe: its name, lengths, and the published model whose shape its own model has, where that is one of a run.
# Lengths are those of the paper's tables. Under full attention a response is the whole canvas, and tokens per step are
# chosen so that it has as many steps as the published answers have tokens: 380 of Dream-Coder, all 512 of LLaDA.
OF_RECIPES: dict[str, tuple[Lengths, str | None]] = {
    "rl/trado_4b_math": (Lengths(256, 595, 2.63), None),
    "rl/trado_4b_math_value": (Lengths(256, 595, 2.63), None),
    "rl/trado_4b_code": (Lengths(512, 238, 1.61), None),
    "rl/trado_8b_math": (Lengths(256, 625, 2.50), None),
    "rl/trado_8b_code": (Lengths(512, 233, 1.60), None),
    "sft/trado_8b_thinking": (Lengths(256, 5872, 1.0), None),
    "rl/trado_8b_thinking": (Lengths(256, 5872, 2.50), "Gen-Verse/TraDo-8B-Instruct"),
    "sft/dream_coder": (Lengths(512, 380, 1.0), None),
    "rl/dream_coder": (Lengths(512, 1024, 1024 / 380), "Dream-org/Dream-Coder-v0-Instruct-7B"),
    "rl/llada_math": (Lengths(256, 512, 1.0), None),
}


def config_of(kind: str, model: str) -> Config:
    """Return the shipped config of GSM8K for a model."""
    cls, file = (RLConfig if kind == "rl" else SFTConfig), ROOT / "configs" / kind / "gsm8k.toml"
    return load_config(cls, [file], [f"model.path={model}", *WORDS[kind]])[0]


def best(case: Case) -> tuple[str, Plan]:
    """Return the change with the shortest step that fits, on as few devices and without adapters if possible."""
    plan = case.plan()
    if plan.memory.fits:
        return "", plan
    fitting = [remedy for remedy in remedies(case) if remedy.plan.memory.fits]
    here = [remedy for remedy in fitting if remedy.case.count == case.count] or fitting
    found = min(
        here, key=lambda r: (r.case.config.lora is not None, r.case.count, r.plan.seconds.step)
    )
    return f"`{found.words}`", found.plan


def rows(kind: str) -> Iterator[str]:
    """Yield the lines of one table."""
    stages = ("rollout", "update", "sync", "step") if kind == "rl" else ("update", "sync", "step")
    speeds = ("rollout tokens/s", "update tokens/s") if kind == "rl" else ("update tokens/s",)
    head = ("model", "H100", "as it is", "with", "peak", *speeds, *stages)
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for model in MODELS:
        for count in DEVICES:
            config = config_of(kind, model)
            case = Case(config, spec_of(config), device_named("h100"), count, LENGTHS[kind])
            change, plan = best(case)
            seconds = plan.seconds
            speed = {
                "rollout tokens/s": seconds.rollout_tokens,
                "update tokens/s": seconds.update_tokens,
            }
            cells = (
                *(
                    model.rpartition("/")[2],
                    str(count),
                    gib(case.plan().memory.peak),
                    change or "-",
                ),
                *(gib(plan.memory.peak), *(f"{speed[name]:,.0f}" for name in speeds)),
                *(duration(getattr(seconds, stage)) for stage in stages),
            )
            yield f"| {' | '.join(cells)} |"


def plans() -> str:
    """Return both tables of plans."""
    lines = [
        "RL, `configs/rl/gsm8k.toml`: 64 prompts x 16 responses of 1,024 tokens:",
        "",
        *rows("rl"),
    ]
    lines += [
        "",
        "SFT, `configs/sft/gsm8k.toml` with `data.batch_size=1024`: responses of 512 tokens:",
    ]
    return "\n".join([*lines, "", *rows("sft")])


def recipe(name: str, count: int) -> Case:
    """Return a recipe on so many H100."""
    lengths, shape = OF_RECIPES[name]
    kind, file = name.partition("/")[0], ROOT / "configs" / "recipes" / f"{name}.toml"
    words = [] if shape is None else [f"model.path={shape}"]
    config, _ = load_config(RLConfig if kind == "rl" else SFTConfig, [file], words)
    return Case(config, spec_of(config), device_named("h100"), count, lengths)


def recipes() -> str:
    """Return the table of recipes."""
    head = "recipe | H100 | packed tokens | as it is | with | peak | rollout | update | step"
    lines = [f"| {head} |", "|" + "---|" * 9]
    for name in OF_RECIPES:
        for count in (8,) if name == "sft/dream_coder" else (8, 64):  # it has 8 demonstrations
            case = recipe(name, count)
            change, plan = best(case)
            cells = (
                *(f"`{name}`", str(count), f"{plan.job.packed / 1e6:,.1f}M"),
                *(gib(case.plan().memory.peak), change or "-", gib(plan.memory.peak)),
                *(duration(t) if t else "-" for t in (plan.seconds.rollout, plan.seconds.update)),
                duration(plan.seconds.step),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def errors() -> str:
    """Return the table of measured and predicted memory and CPU seconds."""
    lines = [
        "| workload | measured | predicted | error | seconds measured | predicted |",
        "|" + "---|" * 6,
    ]
    for name, row in json.loads(RESULTS.read_text())["workloads"].items():
        memory = f"{row['measured_mib']:,.0f} MiB | {row['predicted_mib']:,.0f} MiB | {row['error']:+.1%}"
        spent = [
            ", ".join(f"{stage} {own[key]:.0f}" for stage, own in row["seconds"].items())
            for key in ("measured", "predicted")
        ]
        lines.append(f"| {name} | {memory} | {' | '.join(spent)} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """Return the text of the page with its tables written again."""
    for begin, table in ((PLANS, plans()), (RECIPES, recipes()), (ERRORS, errors())):
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(END)
        page = f"{before}{begin}\n\n{table}\n\n{END}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
