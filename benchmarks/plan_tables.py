"""The tables of `docs/plan.md`: plans of published models on 8, 64 and 512 H100, as `unmask plan` computes them.

    python benchmarks/plan_tables.py                # seconds; writes them into the page

A test compares the page with what this program would write.
"""

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
BEGIN, END = "<!-- written by benchmarks/plan_tables.py -->", "<!-- end of what it writes -->"
MODELS = ("JetLM/SDAR-1.7B-Chat", "JetLM/SDAR-8B-Chat", "JetLM/SDAR-30B-A3B-Chat")
DEVICES = (8, 64, 512)
LENGTHS = {"rl": Lengths(256, 1024, 1.5), "sft": Lengths(256, 512, 1.5)}
WORDS = {"rl": (), "sft": ("data.batch_size=1024",)}


def config_of(kind: str, model: str) -> Config:
    """Return the shipped config of GSM8K for a model."""
    cls, file = (RLConfig if kind == "rl" else SFTConfig), ROOT / "configs" / kind / "gsm8k.toml"
    return load_config(cls, [file], [f"model.path={model}", *WORDS[kind]])[0]


def best(case: Case) -> tuple[str, Plan]:
    """Return the change with the shortest step that fits on the same devices, without adapters if there is one."""
    plan = case.plan()
    if plan.memory.fits:
        return "", plan
    fitting = [r for r in remedies(case) if r.plan.memory.fits and r.case.count == case.count]
    if not fitting:
        return "does not fit", plan
    found = min(fitting, key=lambda r: (r.case.config.lora is not None, r.plan.seconds.step))
    return " ".join(f"`{word}`" for word in found.words.split()), found.plan


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


def tables() -> str:
    """Return both tables as they stand in the page."""
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


def written(page: str) -> str:
    """Return the text of the page with its tables written again."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
