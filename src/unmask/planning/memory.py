"""Memory of one device: what it holds, in the rollout and in the update.

With `n` parameters, of which `t` are trained, in numbers of `w` bytes, sharded over `s` devices:

    weights       n w / s          masters   4 t / s, where w < 4
    gradients     t w / s of the module, and 4 t / s of the masters, where w < 4
    moments       8 t / s (AdamW)  engine    n w, a whole copy, where there are several devices

Weights, masters and moments are there at all times. Gradients are freed after an optimizer step, so the
rollout has none; they are there during the forward pass of every pack but the first. The module's own are
moved to the masters after each pack, when its activations are gone, where there are masters. Offloaded
(`optimizer.offload`), there are always masters, and they, their gradients and the moments are in host memory,
which a CPU shares.

The update's peak is at the start of a pack's backward pass, when all activations and a chunk of logits are
there, or within it, where a layer is recomputed. The cache of keys and values is kept during the update.
FSDP2 gathers one layer while the next one is on its way, and keeps the root's weights (embedding, head)
gathered (Zhao et al., "PyTorch FSDP", 2023).
"""

from dataclasses import dataclass, replace
from math import ceil, log2

from unmask.engine.pages import num_pages
from unmask.models.attention import KEY_CHUNK, round_up
from unmask.models.spec import ModelSpec
from unmask.planning.activations import (
    MOST_TOKENS,
    PassCost,
    largest,
    tokens_of_rows,
    tokens_within,
)
from unmask.planning.devices import GIB, Device
from unmask.planning.job import Job, Trained

PROPOSED_COPIES = 6  # tensors of logits alive at a time, of the engine's proposals
MOST_PROPOSED = 2**27  # numbers of logits that the engine works on at a time
UNBOUNDED = 2**40  # pages


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one kind.

    Attributes:
        name: of the kind.
        rollout: while responses are written.
        update: at the peak of the update.
    """

    name: str
    rollout: float
    update: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one device.

    Attributes:
        parts: by kind; those of no bytes are left out.
        host: bytes of host memory, where the optimizer is offloaded.
        usable: bytes there are.
        sequences: that the engine writes at the same time.
    """

    parts: tuple[Part, ...]
    host: float
    usable: int
    sequences: int

    @property
    def rollout(self) -> float:
        """Peak of the rollout."""
        return sum(part.rollout for part in self.parts)

    @property
    def update(self) -> float:
        """Peak of the update."""
        return sum(part.update for part in self.parts)

    @property
    def peak(self) -> float:
        """The larger of both."""
        return max(self.rollout, self.update)

    @property
    def fits(self) -> bool:
        """Whether there is room for the peak."""
        return self.peak <= self.usable


def memory_of(job: Job, device: Device) -> Memory:
    """Return the memory of each device of a job."""
    state = _state(job)
    engine = job.sizes.total * job.width if job.devices > 1 else 0
    is_rl = job.kind == "rl"
    sequences, cached = cache(job, device) if is_rl else (0, 0)
    gradients, kept, working, sharing = update_peak(job, device)
    host = 0.0
    if job.is_offloaded and not device.is_cpu:
        sums = max(model.trained for model in job.models) * max(job.width, 4) / job.shard
        host = state.pop("masters") + state.pop("moments") + sums
    parts = (
        *(Part(name, size, size) for name, size in state.items()),
        Part("reference", *2 * (job.frozen * job.width / job.shard,)),
        Part("engine's copy", engine, engine),
        # Doubled when it is full: the old half and the new whole exist together.
        Part("keys and values", 1.5 * cached, cached),
        Part("gradients", 0, gradients),
        Part("gathered layers", 0, sharing),
        Part("activations", 0, kept),
        Part("logits and working memory", pass_bytes(job, sequences) if is_rl else 0, working),
    )
    return Memory(tuple(p for p in parts if p.rollout or p.update), host, device.usable, sequences)


def _state(job: Job) -> dict[str, float]:
    """Return the bytes that are there at all times, by kind."""
    policy, critic = job.policy, job.critic
    wide = max(job.width, 4) if has_masters(job) else 0
    masters = wide * sum(model.trained for model in job.models)

    def weights(model: Trained) -> float:
        whole = min(job.tower, model.held)
        return ((model.held - whole) / job.shard + whole) * job.width

    return {
        "weights": weights(policy),
        "value model": weights(critic) if critic else 0,
        "masters": masters / job.shard,
        "moments": sum(model.moments for model in job.models) / job.shard,
    }


def has_masters(job: Job) -> bool:
    """Return whether the optimizer changes copies of the weights, and not the weights themselves."""
    return job.width < 4 or job.is_offloaded


def update_peak(job: Job, device: Device) -> tuple[float, float, float, float]:
    """Return the bytes of gradients, activations, working memory and FSDP2 at the peak of an update.

    The start of the backward pass competes with its end, where activations are gone and the module has
    all its gradients, and with the reduction of the root's gradients after it.
    """
    trained = max(model.trained for model in job.models) / job.shard
    is_elsewhere = job.is_offloaded and not device.is_cpu
    between = 0.0 if is_elsewhere else trained * max(job.width, 4)
    own = trained * job.width if has_masters(job) else 0.0  # of the module, at the end
    tokens = pack_tokens(job, device)
    cost = pass_cost(job, device)
    working = max(cost.in_head(ceil(job.scored / job.packed * tokens)), cost.in_layer(tokens))
    start = (between if job.packs > 1 else 0, cost.kept(tokens), working, gathered(job))
    # The last layer of the backward pass; then the gradient of the embedding, which a tied head began.
    embedding = job.sizes.vocabulary * job.width
    last = cost.last_layer(tokens) + (embedding if job.spec.is_tied else 0)
    end = (between + own, 0, max(last, embedding), gathered(job))
    return max(start, end, (between + own, 0, 0, reduced(job, device)), key=sum)


def pass_cost(job: Job, device: Device) -> PassCost:
    """Return what the memory of a pass depends on."""
    is_trained = job.policy.trained >= job.sizes.vocabulary
    return PassCost(
        job.spec,
        job.width,
        device.is_cpu,
        job.is_checkpointed,
        is_frozen=all(model.share < 1 for model in job.models),
        head_gradient=job.sizes.vocabulary * job.width if is_trained else 0,
    )


def chosen_budget(job: Job, device: Device, memory: float | str) -> int:
    """Return the tokens of a pack that `optimizer.memory` chooses, at least those of one trajectory.

    A run on a CPU has the lengths of its trajectories in place of assumed ones, and on a GPU the memory that is free.
    """
    lengths, cost = job.lengths, pass_cost(job, device)
    least = lengths.prompt + lengths.response
    if not isinstance(memory, str):
        policy, wide = job.policy, max(job.width, 4) if has_masters(job) else 0
        state = policy.held * job.width + policy.trained * (job.width + wide) + policy.moments
        return max(least, tokens_within(cost, memory * GIB - state / job.shard))
    if device.is_cpu:
        scored = job.scored / job.packed
        return max(least, tokens_of_rows(cost, lengths.prompt, lengths.response, scored))

    def fits(tokens: int) -> bool:
        return memory_of(replace(job, token_budget=tokens), device).update <= device.usable

    return max(least, largest(fits, MOST_TOKENS["cuda"]))


def pack_tokens(job: Job, device: Device) -> int:
    """Return the tokens of the largest pack: whole trajectories or views, which a GPU's is filled up behind."""
    if not device.is_cpu:
        return job.token_budget
    most = min(job.token_budget, ceil(job.packed * job.passes / job.updates / job.devices))
    document = ceil(job.packed / job.trajectories)
    if job.spec.is_full:
        document = min(document, job.lengths.prompt + job.lengths.response)
    return most // document * document or most  # one that is larger is split


def gathered(job: Job) -> float:
    """Return the bytes of FSDP2's unsharded weights and gradients: two layers, the root, a layer's gradients.

    Gradients are reduced in fp32.
    """
    if job.devices == 1:
        return 0
    sizes, share = job.sizes, job.policy.share
    root = sizes.root - job.tower
    return (root + 2 * sizes.layer) * job.width + sizes.layer * (job.width + 4) * share


def reduced(job: Job, device: Device) -> float:
    """Return the bytes in which FSDP2 reduces the gradients of the root: whole ones and their sum in fp32.

    Then the whole ones are freed and a shard of the sum is made; gloo, on a CPU, copies the sum.
    """
    if job.devices == 1:
        return 0
    scattered = 4 + 4 / job.shard + (4 if device.is_cpu else 0)
    return (job.sizes.root - job.tower) * job.policy.share * max(job.width + 4, scattered)


def cache(job: Job, device: Device) -> tuple[int, float]:
    """Return the sequences of an engine, and the bytes of its cache.

    Sequences take whole pages of `KEY_CHUNK` tokens; responses to one prompt share its whole pages. The pool
    starts with the pages of the first sequence and doubles, up to `engine.cache_tokens`, by default on a
    GPU half of what is free once the weights are loaded.
    """
    lengths, block = job.lengths, job.block
    per_token = cache_per_token(job.spec, job.width)
    limit = job.cache_tokens
    if limit is None and not device.is_cpu:
        limit = max(0, int((device.usable - job.sizes.total * job.width) / 2 / per_token))
    whole = round_up(lengths.prompt + lengths.response, block)
    shared = 0 if job.spec.is_full else lengths.prompt // KEY_CHUNK
    own = num_pages(whole) - shared
    trajectories = ceil(job.trajectories / job.devices)
    per_group = min(job.trajectories / job.groups, trajectories)
    running = min(trajectories, job.max_sequences)
    most = UNBOUNDED if limit is None else max(1, limit // KEY_CHUNK)
    running = max(1, min(running, int(most / (own + shared / per_group))))
    pages = running * own + ceil(running / per_group) * shared
    started = whole if job.spec.is_full else min(lengths.prompt // block * block + 2 * block, whole)
    first = num_pages(started)
    doubled = first * 2 ** ceil(log2(max(1, pages / first)))
    return running, per_token * KEY_CHUNK * min(doubled, most)


def cache_per_token(spec: ModelSpec, width: int) -> int:
    """Return the bytes of the keys and values of a token in all layers."""
    return 2 * spec.num_layers * spec.num_kv_heads * spec.head_width * width


def pass_bytes(job: Job, sequences: int) -> float:
    """Return the bytes of one forward pass of the engine: a layer's tensors, and the logits of hidden positions.

    Rows are those of open blocks, or of prompts up to the row budget.
    """
    spec = job.spec
    open_rows = sequences * (
        job.lengths.prompt + job.lengths.response if spec.is_full else job.block
    )
    prompts = ceil(job.groups / job.devices) * job.lengths.prompt
    rows = min(max(open_rows, prompts), max(job.row_budget, job.block))
    inner = (
        spec.ffn_width if spec.moe is None else spec.moe.num_active * (spec.moe.width + spec.width)
    )
    heads = (2 * spec.num_heads + 2 * spec.num_kv_heads) * spec.head_width
    logits = sequences * job.block * spec.vocab_size
    proposed = PROPOSED_COPIES * min(logits, MOST_PROPOSED)
    return rows * (4 * spec.width + 3 * inner + heads) * job.width + 4 * (logits + proposed)
