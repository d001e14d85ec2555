"""Pages that are made from code: the command line, the configuration keys, notebooks, quoted sources."""

import json
from pathlib import Path

from tools.site.places import ROOT

# What the pages of the Python interface describe: modules, and objects of modules, by dotted name. The first page is
# made of the names of `unmask` itself.
INTERFACE = {
    "records": (
        "Records",
        "What goes in and comes out.",
        ("unmask.types", "unmask.images", "unmask.presets", "unmask.engine.generation"),
    ),
    "training": (
        "Training and evaluation",
        "What the commands call. A configuration is read by `load_config`.",
        (
            "unmask.configs.load.load_config",
            *(f"unmask.trainers.{name}.train_{name}" for name in ("sft", "rl", "dpo")),
            "unmask.evaluation.evaluate.evaluate_model",
            "unmask.runs.read",
        ),
    ),
    "extending": (
        "Tasks, families and methods",
        "What a task, a family or a method is made of.",
        (
            *("unmask.tasks.dataset", "unmask.tasks.record", "unmask.models.families.family"),
            *("unmask.models.spec", "unmask.diffusion.views", "unmask.objectives.loss"),
            *("unmask.objectives.statistics", "unmask.objectives.advantages"),
            *("unmask.trainers.rl_update", "unmask.models.lora", "unmask.checkpoints.lora_files"),
        ),
    ),
}
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".sh": "bash", ".yaml": "yaml"}


def package_page() -> str:
    """Return the reference of the names of `unmask` itself, in the order of their modules."""
    import unmask

    homes: dict[str, str] = unmask._HOMES  # pyright: ignore[reportPrivateUsage]
    names = [
        f"::: {module}.{name}" for name, module in sorted(homes.items(), key=lambda item: item[1])
    ]
    return "\n\n".join(
        ["# The package", "The names of `unmask` itself: `from unmask import LLM`.", *names]
    )


def interface_page(page: str) -> str:
    """Return a page of `INTERFACE`, whose docstrings the builder of the site fills in."""
    title, sentence, names = INTERFACE[page]
    return "\n\n".join([f"# {title}", sentence, *(f"::: {name}" for name in names)])


def cli_page() -> str:
    """Return the reference of all commands and options, as typer writes it."""
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from unmask.cli.main import app

    command = get_command(app)
    context = command.context_class(command, info_name="unmask")
    return get_docs_for_click(obj=command, ctx=context, name="unmask", title="Commands")


def keys_page() -> str:
    """Return the list of all configuration keys, a heading per kind of configuration."""
    from unmask.configs.keys import keys
    from unmask.runs.defaults import CONFIGS

    parts = [
        "# Configuration keys",
        "What `unmask config KIND --keys` lists, for each kind of run.",
    ]
    for kind, cls in CONFIGS.items():
        parts.append(f"## {kind}")
        for key in keys(cls):
            when = f" Only when `{key.when}`." if key.when else ""
            default = key.default if key.default == "required" else f"default `{key.default}`"
            parts.append(f"**`{key.name}`** `{key.type}`, {default}\n:   {key.sentence}{when}")
    return "\n\n".join(parts)


def notebook_page(path: str) -> str:
    """Return a notebook as Markdown: its text, its code, and what the code printed."""
    parts: list[str] = []
    for cell in json.loads((ROOT / path).read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if html := "".join(data.get("text/html", [])):
                parts.append(f"<div>{html}</div>")  # a block, whose text is not Markdown
            elif text := "".join(output.get("text", data.get("text/plain", []))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    name = path.rpartition("/")[2]
    return "\n\n".join([*parts, f"[The notebook itself]({name}){{ download }}"])


def source_page(path: str) -> str:
    """Return a page that quotes a file."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"# `{path}`\n\n````{language}\n{(ROOT / path).read_text()}````\n"
