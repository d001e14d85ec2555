"""Seconds of a step: rollout, sync of weights, update.

A product with `m` weights takes `2 m` operations per row, attention `4 L H E` per row and visible key; a backward
pass takes as much again for the inputs, and for the weights that are trained (Kaplan et al., "Scaling
Laws for Neural Language Models", 2020). The head runs on scored rows only, and once more in the backward
pass.

**Rollout.** A pass of the engine over `N` sequences with contexts of `c` tokens takes the longer of

    operations   rows (2 body + 4 L H E c) + scored 2 D V       rows = N (K + n): blocks, and finished ones fused
    memory       weights read + N c keys and values + logits    experts: those that some row chose

and a response takes `C / n` passes (roofline, Williams et al. 2009). Prompts are read once per group.

**Update.** A pack takes the longer of its operations and FSDP2's traffic: the weights gathered in the
forward and the backward pass, gradients reduced in fp32. An optimizer step reads and writes its state once.
**Sync.** Trained weights are gathered into the engine's copy once per step. Grading is not predicted.
"""

from dataclasses import dataclass
from math import ceil

from unmask.planning.devices import Device
from unmask.planning.job import Job, Trained
from unmask.planning.memory import PROPOSED_COPIES, cache_per_token, pack_tokens

# Bytes that an optimizer step reads and writes per trained parameter: master, gradient, two moments.
STEP_BYTES = 28
# And the sum of a pack's gradients: what is added, and the sum read and written.
SUM_BYTES = 10


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds of a step, and tokens per second of all devices.

    Attributes:
        rollout: of all responses.
        sync: of weights from the learner to the engines.
        update: of all optimizer steps.
        rollout_tokens: response tokens per second of the rollout.
        update_tokens: packed tokens per second of the update, each pass over them counted.
        communication: share of the update in which traffic is what takes longest.
    """

    rollout: float
    sync: float
    update: float
    rollout_tokens: float
    update_tokens: float
    communication: float

    @property
    def step(self) -> float:
        """Seconds of the whole step."""
        return self.rollout + self.sync + self.update


def seconds_of(job: Job, device: Device, sequences: int) -> Seconds:
    """Return the seconds of a step.

    Args:
        job: what is run.
        device: of which there are `job.devices`.
        sequences: that an engine writes at the same time.
    """
    rollout = rollout_s(job, device, sequences) if job.kind == "rl" else 0.0
    sync = traffic_s(job, device)[0] * job.policy.share
    update, traffic = update_s(job, device)
    written = job.trajectories * job.lengths.response
    return Seconds(
        rollout=rollout,
        sync=sync,
        update=update,
        rollout_tokens=written / rollout if rollout else 0.0,
        update_tokens=job.packed * job.passes / update,
        communication=traffic / update,
    )


def rollout_s(job: Job, device: Device, sequences: int) -> float:
    """Return the seconds in which every device writes its share of the responses."""
    lengths, spec, per_pass = job.lengths, job.spec, min(job.lengths.per_pass, job.block)
    own = ceil(job.trajectories / job.devices)
    ticks = max(own / sequences, 1.0) * lengths.response / per_pass
    whole = lengths.prompt + lengths.response
    context = whole if spec.is_full else lengths.prompt + lengths.response / 2
    rows = sequences * (whole if spec.is_full else job.block + per_pass)
    # Hidden positions, on average over a block's steps.
    scored = sequences * (job.block + per_pass) / 2
    operations = rows * row_operations(job, context) + scored * 2 * job.sizes.vocabulary
    read = job.width * weights_read(job, rows)
    read += sequences * context * cache_per_token(spec, job.width)
    read += scored * spec.vocab_size * 4 * PROPOSED_COPIES
    reached, efficiency = device.flops * device.efficiency.engine, device.efficiency.bandwidth
    tick = max(operations / reached, read / (device.bandwidth * efficiency)) + device.tick_s
    prompts = ceil(job.groups / job.devices) * lengths.prompt
    return ticks * tick + prompts * row_operations(job, lengths.prompt / 2) / reached


def weights_read(job: Job, rows: float) -> float:
    """Return the parameters that a pass over `rows` reads: of experts, those that some row is expected to choose."""
    moe, sizes = job.spec.moe, job.sizes
    read = sizes.total - (0 if job.spec.is_tied else sizes.vocabulary)
    if moe is None:
        return read
    idle = (1 - moe.num_active / moe.num_experts) ** rows
    return read - sizes.experts * idle


def row_operations(job: Job, context: float) -> float:
    """Return the operations of one row in all layers of a forward pass."""
    spec = job.spec
    return 2 * job.sizes.body + 4 * spec.num_layers * spec.num_heads * spec.head_width * context


def update_s(job: Job, device: Device) -> tuple[float, float]:
    """Return the seconds of all optimizer steps, and those of them in which traffic takes longest."""
    tokens = pack_tokens(job, device)
    count = job.packs * job.updates  # packs of a device, in all optimizer steps
    forward = pack_operations(job, tokens)
    efficiency = device.efficiency.experts if job.spec.moe else device.efficiency.training
    reached = device.flops * efficiency
    gather, reduce = traffic_s(job, device)
    scoring = max(forward / reached, gather) * job.scorings * ceil(count / job.passes)
    total, traffic = scoring, 0.0
    for model in job.models:
        factor = 2 + model.share + (1 if job.is_checkpointed else 0)
        products, moved = factor * forward / reached, 2 * gather + reduce * model.share
        total += count * max(products, moved)
        traffic += count * moved if moved > products else 0.0
        total += job.updates * optimizer_s(job, device, model)
    return total, traffic


def pack_operations(job: Job, tokens: int) -> float:
    """Return the operations of a pack's forward pass; the head's count 4 / 3, as it is recomputed."""
    scored = tokens * job.scored / job.packed
    return tokens * row_operations(job, job.context) + scored * 2 * job.sizes.vocabulary * 4 / 3


def optimizer_s(job: Job, device: Device, model: Trained) -> float:
    """Return the seconds of an optimizer step: its state passes memory once.

    Offloaded, the gradients of every pack and then the weights pass the link to the host, where gradients are
    added up and the step runs; the host's memory is assumed to have four times the bandwidth of the link.
    """
    own = model.trained / job.shard
    if job.is_offloaded and not device.is_cpu:
        moved = own * job.width * (job.packs + 1)
        return (moved + own * (STEP_BYTES + SUM_BYTES * job.packs) / 4) / device.host
    return own * STEP_BYTES / (device.bandwidth * device.efficiency.bandwidth)


def link(device: Device, ranks: int) -> float:
    """Return the bytes per second at which each of some ranks takes part in a collective.

    Of `n` ranks each receives `(n - 1) / n` of the whole. Between nodes, data arrives once per node, through the
    network of all its devices together, and is spread within it.
    """
    between = min(device.link, device.network * device.per_node)
    raw = device.link if ranks <= device.per_node else between
    return raw * device.efficiency.link * ranks / max(1, ranks - 1)


def traffic_s(job: Job, device: Device) -> tuple[float, float]:
    """Return the seconds that gathering the weights takes, and reducing gradients in fp32.

    Copies of the sharded weights (`distributed.shard`) add up their gradients, a shard each: a ring passes them
    twice, over the network of one device.
    """
    copies, count = job.devices // job.shard, job.sizes.total
    gather = count * job.width / link(device, job.shard) if job.shard > 1 else 0.0
    reduce = count * 4 / link(device, job.shard) if job.shard > 1 else 0.0
    if copies > 1:
        own = device.link if job.devices <= device.per_node else device.network
        reduce += 2 * 4 * count / job.shard / (own * device.efficiency.link)
    return gather, reduce
