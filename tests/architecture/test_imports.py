"""The imports that each area may have: the table of DESIGN section 3."""

import sys

from tests.architecture.source import Import, Module, imports, modules

# An entry covers what lies below it: `models` covers `models.spec`, `checkpoints.tokenizer` only itself.
MAY_IMPORT = {
    "bounds": set(),
    "types": {"images", "sampling_params"},
    "sampling_params": {"bounds", "vllm_names"},
    "vllm_names": set(),
    "images": set(),
    "message_parts": {"images"},
    "seeds": set(),
    "json_files": set(),
    "moved": set(),
    "presets": {"sampling_params"},
    "configs": {"types"},
    "models": {"types", "configs", "diffusion.conventions"},
    "checkpoints": {"types", "configs", "models"},
    # A function of a method takes the section of its name.
    "diffusion": {"types", "configs.methods"},
    "objectives": {"types", "configs.methods"},
    # A notebook shows a `Generation` as a page's player does.
    "engine": {
        *("types", "configs", "models", "diffusion", "checkpoints"),
        *("runs.trajectories", "viewer.notebook"),
    },
    "sandbox": {"types", "configs"},
    "rewards": {"types", "configs", "sandbox", "models", "checkpoints", "runs"},
    "tasks": {"types", "configs", "rewards", "sandbox", "data"},
    "runs": {"types", "configs"},
    "data": {
        *("types", "configs", "checkpoints.tokenizer", "checkpoints.image_reader"),
        "models.vision.image_codec",
    },
    "rollouts": {
        *("types", "configs", "models", "distributed", "engine", "tasks", "rewards", "runs"),
    },
    "exporting": {"types", "configs", "models", "checkpoints", "runs"},
    "importing": {"types", "configs", "models.families", "data", "diffusion.trace", "runs"},
    "distributed": {"configs", "models", "runs.signals", "runs.directory"},
    "evaluation": {
        *("types", "configs", "models", "checkpoints", "diffusion", "objectives"),
        *("rewards", "sandbox", "engine", "tasks", "rollouts", "runs", "distributed"),
    },
    # The engine's row budgets and pages.
    "planning": {
        *("types", "configs", "models", "checkpoints"),
        *("engine.options", "engine.pages", "runs.text_table"),
    },
    "server": {"types", "configs", "checkpoints", "engine", "runs", "viewer"},
    "viewer": {"types", "runs"},
}
MAY_IMPORT["acceptance"] = {*MAY_IMPORT["evaluation"], "evaluation"}
MAY_IMPORT["trainers"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT["__init__"] = {
    *(
        "types",
        "checkpoints.checkpoint",
        "engine.async_llm",
        "engine.broken_responses",
        "engine.llm",
    ),
    "evaluation.grade",
}

# Records and arithmetic on the standard library alone: any area may import them.
LEAVES = {
    *(
        "bounds",
        "images",
        "message_parts",
        "sampling_params",
        "types",
        "seeds",
        "json_files",
        "presets",
        "vllm_names",
    ),
    "__version__",
}

# Their other imports of unmask must wait until something is asked for.
LAZY = {"cli", "__init__"}
# Imported by a subcommand only.
NOT_LAZY = {
    *("unmask.cli.doctor", "unmask.cli.first_prompt", "unmask.cli.prompts"),
    *("unmask.cli.answers", "unmask.cli.canvas_text", "unmask.cli.chat_session"),
}


def is_allowed(module: Module, target: str) -> bool:
    """Return whether a module may import `target`, a dotted name below `unmask`."""
    leaves = set() if module.area in LEAVES else LEAVES
    allowed = {module.area, *leaves, *MAY_IMPORT[module.area]}
    return any(f"{target}.".startswith(f"{name}.") for name in allowed)


def unmask_imports(module: Module) -> list[tuple[Import, str]]:
    """Return a module's imports of unmask, each with its name below `unmask`."""
    return [
        (found, found.target.removeprefix("unmask").removeprefix("."))
        for found in imports(module.tree)
        if found.target.split(".")[0] == "unmask"
    ]


def test_every_area_has_a_row() -> None:
    assert {module.area for module in modules()} <= set(MAY_IMPORT)


def test_areas_import_only_what_their_row_allows() -> None:
    wrong = [
        f"{module.path}:{found.line}: {module.area} may not import {found.target}"
        for module in modules()
        for found, target in unmask_imports(module)
        if not is_allowed(module, target)
    ]
    assert not wrong, "\n".join(wrong)


def test_cli_and_package_import_when_asked() -> None:
    wrong = [
        f"{module.path}:{found.line}: {found.target} is imported at start"
        for module in modules()
        for found, target in unmask_imports(module)
        if module.area in LAZY
        and module.name not in NOT_LAZY
        and not found.is_lazy
        and target.split(".")[0] not in LEAVES | LAZY
    ]
    assert not wrong, "\n".join(wrong)


def test_leaves_stand_on_the_standard_library() -> None:
    leaves = [module for module in modules() if module.area in LEAVES]
    assert {module.area for module in leaves} >= {"types", "presets"}
    roots = {
        (leaf.area, found.target.split(".")[0]) for leaf in leaves for found in imports(leaf.tree)
    }
    # The imports of unmask that a leaf may have are in the table.
    assert {pair for pair in roots if pair[1] not in sys.stdlib_module_names} == {
        ("message_parts", "unmask"),
        ("presets", "unmask"),
        ("sampling_params", "unmask"),
        ("types", "unmask"),
    }


def test_table_is_enforced() -> None:
    (types,) = (module for module in modules() if module.name == "unmask.types")
    data = Module("unmask.data.mixing", types.path, types.tree)
    assert is_allowed(data, "checkpoints.tokenizer.Tokenizer")
    assert is_allowed(data, "data.cursor")
    assert not is_allowed(data, "models.transformer")
    assert not is_allowed(data, "models")
    assert not is_allowed(types, "seeds")
    assert not is_allowed(data, "load_model")


def test_configs_import_nothing_heavy() -> None:
    light = {*sys.stdlib_module_names, "pydantic", "pydantic_core", "annotated_types", "unmask"}
    roots = {
        (module.name, found.target.split(".")[0])
        for module in modules()
        if module.area == "configs"
        for found in imports(module.tree)
    }
    assert not {pair for pair in roots if pair[1] not in light}
