"""A config as the numbers that cost depends on.

Lengths are not in a config: they are assumed, or given (`Lengths`). With `P` tokens of a prompt, `C` of a
response, blocks of `K` and `n` tokens revealed per denoising step, the packed tokens of a trajectory follow from
`diffusion/layout.py`:

    block-causal, trace      C clean + C K / n noisy      a noisy copy of the block for every denoising step
    block-causal, random     C clean + C m noisy          `m` masks
    full attention           views (P + C)                views: C / n of a trace, m of masks

to which a prompt adds `P` once: for each demonstration, or for all responses of a group.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from unmask.configs.lora import LoRAConfig, LoRAParams
from unmask.configs.methods.advantage.value import ValueAdvantage
from unmask.configs.methods.mask_section import CountedMask
from unmask.configs.methods.random_mask import RandomMask
from unmask.configs.methods.view_section import ViewSection
from unmask.configs.methods.views.coupled import CoupledViews
from unmask.configs.methods.views_loss import ViewsLoss
from unmask.configs.optimizer import OptimizerSection
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.models.spec import ModelSpec
from unmask.planning.devices import Device
from unmask.planning.sizes import Sizes, adapter_parameters, sizes_of, trained_parameters

Config = SFTConfig | RLConfig
WIDTHS = {"float32": 4, "bfloat16": 2, "float64": 8}


@dataclass(frozen=True, slots=True)
class Lengths:
    """Assumed lengths in tokens.

    Attributes:
        prompt: of a prompt, `P`.
        response: of a response, `C`.
        per_pass: tokens that a denoising step reveals of a block, `n`.
    """

    prompt: int
    response: int
    per_pass: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A model under training.

    Attributes:
        held: parameters in memory because of it: none of weights that it shares.
        trained: parameters with gradients.
        moments: bytes of the optimizer's moments.
        share: of all parameters of a forward pass, those that are trained.
    """

    held: int
    trained: int
    moments: float
    share: float


@dataclass(frozen=True, slots=True)
class Job:
    """What is run on how many devices.

    Attributes:
        kind: of the config.
        spec: of the model.
        sizes: of the model.
        lengths: assumed.
        width: bytes of a number of the weights.
        policy: the model that is trained.
        critic: the value model, if it has weights of its own.
        tower: parameters of a frozen image tower: every device holds it whole.
        frozen: parameters of a reference policy.
        devices: number of them, one rank each.
        shard: devices that share one copy of the weights.
        is_checkpointed: whether activations are recomputed layer by layer.
        is_offloaded: whether masters and moments are in host memory.
        token_budget: tokens of a pack; 0 where memory chooses it (`memory.py`).
        max_sequences: most sequences of an engine.
        row_budget: most rows of a pass of an engine.
        cache_tokens: most cached tokens of an engine; `None` is the device's default.
        trajectories: of a step, on all devices.
        groups: prompts of a step, on all devices.
        block: positions of a block that the engine writes, `K`.
        packed: tokens of a step's packs.
        scored: rows of them that the head scores.
        context: tokens that a packed token attends to, on average.
        passes: times that the packs are trained on.
        updates: optimizer steps.
        scorings: forward passes without gradients over all packs.
    """

    kind: Literal["sft", "rl"]
    spec: ModelSpec
    sizes: Sizes
    lengths: Lengths
    width: int
    policy: Trained
    critic: Trained | None
    tower: int
    frozen: int
    devices: int
    shard: int
    is_checkpointed: bool
    is_offloaded: bool
    token_budget: int
    max_sequences: int
    row_budget: int
    cache_tokens: int | None
    trajectories: int
    groups: int
    block: int
    packed: float
    scored: float
    context: float
    passes: int
    updates: int
    scorings: int

    @property
    def models(self) -> tuple[Trained, ...]:
        """The policy, and the value model if there is one."""
        return (self.policy,) if self.critic is None else (self.policy, self.critic)

    @property
    def packs(self) -> int:
        """Packs of one device in one optimizer step."""
        return max(
            1, ceil(self.packed * self.passes / self.updates / self.devices / self.token_budget)
        )


def job_of(config: Config, spec: ModelSpec, device: Device, count: int, lengths: Lengths) -> Job:
    """Return the job of a config.

    Args:
        config: of an SFT or RL run.
        spec: of its model.
        device: that it runs on.
        count: number of devices.
        lengths: assumed.

    Raises:
        ValueError: if the devices do not divide into groups of `distributed.shard`, or fewer prompts or
            demonstrations than devices make a step.
    """
    is_rl = isinstance(config, RLConfig)
    trajectories = (
        config.rollout.prompts * config.rollout.responses if is_rl else config.data.batch_size
    )
    if trajectories < count:
        key = "rollout.prompts x rollout.responses" if is_rl else "data.batch_size"
        raise ValueError(
            f"--devices {count}: a step has {key} = {trajectories} trajectories, fewer than devices; "
            "give fewer devices or larger steps"
        )
    groups = config.rollout.prompts if is_rl else trajectories
    drafts = config.rollout.drafts if is_rl else 0
    # A draft has one view: each block was written in one denoising step.
    along = replace(lengths, per_pass=float(lengths.response)) if drafts else lengths
    packed, scored = packing(config.views, spec, along, trajectories * max(1, drafts), groups)
    if is_rl and config.scores_moves and config.sampling.to_params().ranks_draws:
        # Of n denoising steps of a block, the s-th draws at n + 1 - s of n parts of it.
        scored *= (1 + max(1.0, (spec.block_size or lengths.response) / lengths.per_pass)) / 2
    width = WIDTHS[config.model.dtype] if config.model.dtype != "auto" else device.width
    sizes = sizes_of(spec)
    own_block = config.sampling.block_size if is_rl else None
    return Job(
        kind="rl" if is_rl else "sft",
        spec=spec,
        sizes=sizes,
        lengths=lengths,
        width=width,
        policy=_trained(
            spec,
            config.lora,
            config.optimizer,
            (sizes.total, trained_parameters(spec, config.model.trains)),
            shares=False,
        ),
        tower=0 if config.model.trains == "all" else sizes.tower,
        critic=_critic(config, spec, count) if is_rl else None,
        frozen=_frozen(config, sizes) if is_rl else 0,
        devices=count,
        shard=_shard(config, count),
        is_checkpointed=config.model.gradient_checkpointing,
        is_offloaded=config.optimizer.offload,
        token_budget=config.optimizer.token_budget or 0,
        max_sequences=config.engine.max_sequences,
        row_budget=config.engine.row_budget or device.row_budget,
        cache_tokens=config.engine.cache_tokens,
        trajectories=trajectories,
        groups=groups,
        block=min(own_block or spec.block_size or lengths.response, lengths.response),
        packed=packed,
        scored=scored,
        context=lengths.prompt + lengths.response / (1 if spec.is_full else 2),
        passes=config.epochs if is_rl else 1,
        updates=config.minibatches * config.epochs if is_rl else 1,
        scorings=_scorings(config, width) if is_rl else 0,
    )


def packing(
    views: ViewSection, spec: ModelSpec, lengths: Lengths, trajectories: int, groups: int
) -> tuple[float, float]:
    """Return the packed tokens of a step and the rows of them that are scored.

    Args:
        views: how a trajectory becomes noisy views.
        spec: of the model.
        lengths: assumed.
        trajectories: of the step.
        groups: distinct prompts of the step.
    """
    response = lengths.response
    block = max((*views.train_blocks, spec.block_size or response))
    if isinstance(views, RandomMask):
        is_coupled = isinstance(views, CoupledViews)
        masks = views.count * (2 if is_coupled else 1)
        scored = response * masks * (0.5 if is_coupled else (views.low + views.high) / 2)
        of_block, of_full = views.count * noisy_share(views, block, is_coupled), float(masks)
        if spec.is_full and views.train_blocks:  # semi_ar: a view per block
            of_full *= ceil(response / max(views.train_blocks))
        if getattr(views, "whole", False):  # a third view per mask, of the whole response
            scored += response * views.count
            of_block, of_full = of_block + views.count, of_full + views.count
    elif isinstance(views, CountedMask):
        masks = views.count * views.per_mask
        scored = response * masks * views.predicted
        of_block, of_full = masks * views.noisy_share(block), float(masks)
    else:
        shrink = getattr(views, "shrink", 1)
        of_block = 1.0 if views.is_causal else max(1.0, block / lengths.per_pass / shrink)
        of_full = max(1.0, response / lengths.per_pass / shrink)
        along = of_full if spec.is_full else of_block
        drawn = min(1.0, getattr(views, "count", along) / along)  # of kind "steps"
        of_block, of_full, scored = of_block * drawn, of_full * drawn, response * drawn
    if spec.is_full and not views.is_causal:
        return trajectories * of_full * (lengths.prompt + response), trajectories * scored
    if isinstance(views, CountedMask) and views.has_own_prompts:
        return trajectories * of_full * (lengths.prompt + 2 * response), trajectories * scored
    return groups * lengths.prompt + trajectories * response * (1 + of_block), trajectories * scored


def noisy_share(views: RandomMask, block: int, is_coupled: bool) -> float:
    """Return the expected number of a mask's views in which a block has a target: the others take no space.

    A block of `K` has none with probability `E[(1 - t)^K]` over noise levels `t`, and in the complement
    with `E[t^K]`.
    """

    def power(low: float, high: float) -> float:
        """Return the mean of `x^K` for `x` uniform in `[low, high]`."""
        if high - low < 1e-6:
            return low**block
        return (high ** (block + 1) - low ** (block + 1)) / (block + 1) / (high - low)

    share = 1 - power(1 - views.high, 1 - views.low)
    return share + 1 - power(views.low, views.high) if is_coupled else share


def _trained(
    spec: ModelSpec,
    lora: LoRAConfig | None,
    optimizer: OptimizerSection,
    counts: tuple[int, int],
    shares: bool,
) -> Trained:
    """Return a model of so many parameters, of which so many are trained, or adapters in their place.

    `shares` is whether its frozen weights are held already.
    """
    total, trained = counts
    if lora is not None:
        trained = adapter_parameters(spec, LoRAParams(**lora.model_dump()))
    matrices = min(sizes_of(spec).matrices, trained) if lora is None else trained
    held = (0 if shares else total) + (0 if lora is None else trained)
    moments = {
        "adamw": 8.0 * trained,
        "muon": 8.0 * trained - 4.0 * matrices,  # one moment of a matrix, see trainers/optimizers
        "adamw_8bit": trained * 2 * (1 + 4 / 256),  # codes, and a scale of 4 bytes per 256
    }[getattr(optimizer, "kind")]  # noqa: B009  # every section of the union has it
    share = trained / (total + (0 if lora is None else trained))
    return Trained(held, trained, moments, share)


def _critic(config: RLConfig, spec: ModelSpec, count: int) -> Trained | None:
    """Return the value model of `trainers/methods/value.py`; a shared head counts as none.

    One device holds the frozen weights of policy and value model once; sharded twins have weights of their own.
    """
    advantage = config.advantage
    if not isinstance(advantage, ValueAdvantage):
        return None
    sizes = sizes_of(spec)
    total = sizes.total - (0 if spec.is_tied else sizes.vocabulary) + spec.width
    has_adapters = advantage.lora is not None and config.lora is not None
    shares = count == 1 and has_adapters and advantage.path is None and advantage.head == "zero"
    trained = trained_parameters(spec, config.model.trains, is_value=True)
    return _trained(spec, advantage.lora, config.optimizer, (total, trained), shares)


def _frozen(config: RLConfig, sizes: Sizes) -> int:
    is_policy = config.lora is not None and config.loss.kl_to == "reference"
    return 0 if config.loss.kl_to == "step" or is_policy else sizes.total


def _scorings(config: RLConfig, width: int) -> int:
    """Return how many times a step scores its packs without gradients: see `trainers/policy_update.py`."""
    has_critic = config.advantage.has_value_model
    rescores = (
        not config.is_single_update
        and config.advantage.kind != "shared_value"
        and not ((width >= 4 or config.model.batch_invariant) and config.has_old_behavior)
    )
    # A loss of whole responses scores the views of each update once more.
    again = config.epochs if isinstance(config.loss, ViewsLoss) else 0
    return int(has_critic) + int(rescores) + int(config.loss.kl_to != "step") + again


def _shard(config: Config, count: int) -> int:
    shard = config.distributed.shard or count
    if count % shard:
        raise ValueError(
            f"--devices {count}: not a multiple of distributed.shard = {shard}, the devices that share one "
            "copy of the weights"
        )
    return shard
