"""The tables of `unmask plan`, as text and as JSON."""

from dataclasses import asdict
from typing import Any

from unmask.planning.devices import GIB
from unmask.planning.plan import Case, Plan
from unmask.planning.remedies import Remedy
from unmask.runs.text_table import align


def report(case: Case, plan: Plan, found: list[Remedy]) -> str:
    """Return the plan as text: the job, memory, seconds, and what would make it fit."""
    memory = plan.memory
    verdict = (
        f"It fits: the peak is {gib(memory.peak)} of {gib(memory.usable)} on each device."
        if memory.fits
        else f"It does not fit: the peak is {gib(memory.peak)}, and each device has "
        f"{gib(memory.usable)} for tensors."
    )
    parts = [_job(case, plan), _memory(plan), _seconds(plan), verdict]
    if found:
        parts.append(f"What would change that:\n{_remedies(found, plan)}")
    elif not memory.fits:
        parts.append("Nothing that is planned here makes it fit.")
    return "\n\n".join(parts)


def to_dict(case: Case, plan: Plan, found: list[Remedy]) -> dict[str, Any]:
    """Return the plan as JSON holds it."""
    return {
        "device": asdict(case.device),
        "lengths": asdict(case.lengths),
        **_figures(plan),
        "job": asdict(plan.job),
        "remedies": [{"words": remedy.words, **_figures(remedy.plan)} for remedy in found],
    }


def _figures(plan: Plan) -> dict[str, Any]:
    memory, seconds = plan.memory, plan.seconds
    return {
        "fits": memory.fits,
        "memory": {**asdict(memory), "peak": memory.peak},
        "seconds": {**asdict(seconds), "step": seconds.step},
    }


def gib(num_bytes: float) -> str:
    """Return bytes in GiB, as text."""
    return f"{num_bytes / GIB:.1f} GiB"


def duration(seconds: float) -> str:
    """Return seconds with three digits, or whole ones."""
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"


def _job(case: Case, plan: Plan) -> str:
    job, device, lengths = plan.job, case.device, case.lengths
    model = f"{job.sizes.total:,} parameters, {job.policy.trained:,} trained"
    assumed = f"prompts of {lengths.prompt}, responses of {lengths.response} tokens"
    per_pass = f", {lengths.per_pass:g} of them per denoising step"
    rows = [
        ("model", f"{case.config.model.path}: {model}"),
        ("devices", f"{job.devices} {device.name}, weights sharded over {job.shard}"),
        ("limits", f"{device.source}; the shares of them that are reached are assumed"),
        ("lengths", f"assumed: {assumed}{per_pass}"),
        ("step", f"{job.trajectories:,} trajectories, {job.packed:,.0f} packed tokens"),
        ("packs", f"{job.packs} of {job.token_budget} tokens on each device, {job.updates} times"),
        *_chosen(case),
    ]
    if plan.memory.sequences:
        rows.append(("engine", f"{plan.memory.sequences} sequences on each device"))
    return align(rows)


def _chosen(case: Case) -> list[tuple[str, str]]:
    """Return the row about a token budget that memory chooses."""
    optimizer = case.config.optimizer
    if optimizer.token_budget is not None:
        return []
    match optimizer.memory:
        case "auto" if case.device.is_cpu:
            reason = "the memory of a published row of these lengths"
        case "auto":
            reason = "what is left of the device's memory"
        case given:
            reason = f"{given:g} GiB for weights, gradients, optimizer and activations"
    return [("", f"chosen by optimizer.memory: {reason}")]


def _memory(plan: Plan) -> str:
    memory = plan.memory
    rows = [("memory of a device", "rollout", "update")]
    rows += [(part.name, gib(part.rollout), gib(part.update)) for part in memory.parts]
    rows.append(("all", gib(memory.rollout), gib(memory.update)))
    if plan.job.kind == "sft":
        rows = [(name, update) for name, _, update in rows]
    table = align(rows, right=range(1, len(rows[0])))
    return f"{table}\nin host memory: {gib(memory.host)} for each device" if memory.host else table


def _seconds(plan: Plan) -> str:
    seconds = plan.seconds
    rollout = ("rollout", duration(seconds.rollout), f"{seconds.rollout_tokens:,.0f}")
    rows = [
        ("stage", "time", "tokens/s"),
        *([rollout] if seconds.rollout else []),
        ("update", duration(seconds.update), f"{seconds.update_tokens:,.0f}"),
        *([("sync", duration(seconds.sync), "")] if seconds.sync else []),
        ("step", duration(seconds.step), ""),
    ]
    note = (
        f"\nTraffic between devices takes longest in {seconds.communication:.0%} of the update: larger packs "
        "(optimizer.token_budget) need less of it."
    )
    return align(rows, right=(1, 2)) + (note if seconds.communication else "")


def _remedies(found: list[Remedy], before: Plan) -> str:
    rows = [("change", "peak", "fits", "step")]
    rows += [
        (
            remedy.words,
            gib(remedy.plan.memory.peak),
            "yes" if remedy.plan.memory.fits else "no",
            duration(remedy.plan.seconds.step),
        )
        for remedy in found
    ]
    rows.append(("as it is", gib(before.memory.peak), "no", duration(before.seconds.step)))
    return align(rows, right=(1, 3))
