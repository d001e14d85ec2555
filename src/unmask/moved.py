"""Import paths of before the rooms: each still gives the module that moved, with a warning.

For one release; `unmask.models.fresh` is then an error, as any other wrong name.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

# Old path below `unmask` -> new path.
MOVED = {
    "cli_eval": "cli.evaluate",
    "cli_models": "cli.models",
    "cli_words": "cli.options",
    "configs.foreign": "importing.config",
    "configs.foreign_rules": "importing.rules",
    "configs.foreign_table": "importing.table",
    "configs.foreign_values": "importing.values",
    "data.foreign": "importing.data",
    "diffusion.draws": "diffusion.keyed_random",
    "diffusion.propose": "diffusion.token_sampling",
    "diffusion.rules": "diffusion.sampling_tensors",
    "diffusion.sample": "diffusion.reference_sampler",
    "doctor": "cli.doctor",
    "engine.books": "engine.host_state",
    "engine.feed": "engine.batch_plan",
    "engine.finished": "engine.sequence_state",
    "engine.graphs": "engine.cuda_graphs",
    "engine.params": "engine.options",
    "engine.prefix": "engine.prefix_cache",
    "engine.slots": "engine.sequence_state",
    "evaluation.agreement": "acceptance.agreement",
    "evaluation.compare": "evaluation.comparison",
    "evaluation.metrics": "evaluation.estimates",
    "evaluation.published": "acceptance.reference_code",
    "evaluation.reading": "cli.first_prompt",
    "evaluation.verify": "acceptance.verify",
    "json_records": "json_files",
    "models.checkpoint": "checkpoints.checkpoint",
    "models.convert": "checkpoints.convert",
    "models.critic_files": "checkpoints.value_model_files",
    "models.flex": "models.flex_attention",
    "models.fresh": "checkpoints.random_init",
    "models.inspect": "checkpoints.inspect",
    "models.json_object": "models.families.json_keys",
    "models.known_ids": "checkpoints.tokenizer_files",
    "models.lora_files": "checkpoints.lora_files",
    "models.mask_token": "checkpoints.mask_token",
    "models.memory": "checkpoints.memory",
    "models.reward_model": "checkpoints.reward_model",
    "models.tensor_files": "checkpoints.tensor_files",
    "models.tiles": "models.tiled_attention",
    "models.tokenizer": "checkpoints.tokenizer",
    "models.weights": "checkpoints.weights",
    "rewards.cgroup": "sandbox.cgroup",
    "rewards.combine": "rewards.weighted",
    "rewards.inside.enclose": "sandbox.guest.namespaces",
    "rewards.inside.host": "sandbox.guest.main",
    "rewards.inside.landlock": "sandbox.guest.landlock",
    "rewards.inside.limits": "sandbox.guest.limits",
    "rewards.inside.literals": "sandbox.guest.literals",
    "rewards.inside.replay": "sandbox.guest.replay",
    "rewards.inside.syscalls": "sandbox.guest.syscalls",
    "rewards.inside.watch": "sandbox.guest.supervisor",
    "rewards.post": "sandbox.http_post",
    "rewards.program_calls": "sandbox.program_calls",
    "rewards.program_objects": "sandbox.program_objects",
    "rewards.remote_sandbox": "sandbox.remote",
    "rewards.sandbox": "sandbox.process",
    "rewards.sandbox_command": "sandbox.command",
    "rewards.sandbox_level": "sandbox.isolation",
    "rewards.sandbox_limits": "sandbox.limits",
    "rewards.sandbox_user": "sandbox.user",
    "rewards.workers": "sandbox.verifier_pool",
    "runs.columns": "runs.text_table",
    "runs.history": "runs.read",
    "runs.show": "runs.print",
    "runs.stopped": "runs.signals",
    "runs.verdicts": "runs.gradings",
    "tasks.json_files": "tasks.json_task",
    "tasks.published": "tasks.public_datasets",
    "trainers.judgement": "trainers.value_targets",
    "trainers.keeper": "trainers.checkpointer",
    "trainers.masters": "trainers.master_weights",
    "trainers.terms": "trainers.losses",
    "viewer.numbers": "runs.format",
    "viewer.reading": "runs.read",
    "rewards.inside": "sandbox.guest",
}


class MovedModules:
    """Finds the old paths and loads the module of the new one."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for an old path, None for every other name."""
        if name.removeprefix("unmask.") not in MOVED:
            return None
        return ModuleSpec(name, self)  # pyright: ignore[reportArgumentType]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module at its new path."""
        path = f"unmask.{MOVED[spec.name.removeprefix('unmask.')]}"
        warnings.warn(f"{spec.name} is now {path}", DeprecationWarning, stacklevel=2)
        module = import_module(path)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which the import of the alias replaced."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let old import paths be found; before the finder of files, which would load a copy."""
    sys.meta_path.insert(0, MovedModules())  # pyright: ignore[reportArgumentType]
