"""The configuration of `unmask rl`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from unmask.configs.alarm import AlarmConfig
from unmask.configs.distributed import DistributedConfig
from unmask.configs.engine import EngineConfig
from unmask.configs.evaluation import EvalSection
from unmask.configs.lora import LoRAConfig, check_trained_parts
from unmask.configs.methods import choose
from unmask.configs.methods.advantage.group import GroupAdvantage
from unmask.configs.methods.advantage.progress import ProgressAdvantage
from unmask.configs.methods.advantage.shared_value import SharedValueAdvantage
from unmask.configs.methods.advantage.softmax import SoftmaxAdvantage
from unmask.configs.methods.advantage.value import ValueAdvantage
from unmask.configs.methods.loss.boundary import BoundaryLoss
from unmask.configs.methods.loss.clipped import ClippedLoss
from unmask.configs.methods.loss.distilled import DistilledLoss
from unmask.configs.methods.loss.gdsd import GDSDLoss
from unmask.configs.methods.loss.sandwich import SandwichLoss
from unmask.configs.methods.loss.sequence_ratio import SequenceRatioLoss
from unmask.configs.methods.loss.token_ratio import TokenRatioLoss
from unmask.configs.methods.loss.weighted import WeightedLoss
from unmask.configs.methods.views.blockwise import BlockwiseViews
from unmask.configs.methods.views.counted import CountedViews
from unmask.configs.methods.views.coupled import CoupledViews
from unmask.configs.methods.views.one_step import OneStepViews
from unmask.configs.methods.views.quadrature import QuadratureViews
from unmask.configs.methods.views.random import RandomViews
from unmask.configs.methods.views.steps import StepsViews
from unmask.configs.methods.views.suffix import SuffixViews
from unmask.configs.methods.views.trace import TraceViews
from unmask.configs.methods.views_loss import ViewsLoss
from unmask.configs.model import TrainedModelConfig
from unmask.configs.optimizer import PolicyOptimizer, PolicyOptimizerConfig
from unmask.configs.reward import OutcomeTerm, RewardTerm, check_terms
from unmask.configs.rollout import FilterConfig, RolloutConfig, ShapingConfig
from unmask.configs.run import RunConfig
from unmask.configs.sampling import SamplingConfig
from unmask.configs.section import Section
from unmask.configs.task import TaskConfig

if TYPE_CHECKING:
    Views = (
        TraceViews
        | StepsViews
        | RandomViews
        | CoupledViews
        | CountedViews
        | QuadratureViews
        | BlockwiseViews
        | OneStepViews
        | SuffixViews
    )
    Advantage = (
        GroupAdvantage
        | SoftmaxAdvantage
        | ProgressAdvantage
        | ValueAdvantage
        | SharedValueAdvantage
    )
    Loss = (
        ClippedLoss
        | WeightedLoss
        | TokenRatioLoss
        | SequenceRatioLoss
        | SandwichLoss
        | BoundaryLoss
        | GDSDLoss
        | DistilledLoss
    )
else:
    Views = choose("views", "rollouts", "trace")
    Advantage = choose("advantage", "rollouts", "group_std")
    Loss = choose("loss", "rollouts", "clipped")


class RLConfig(Section):
    """Reinforcement learning along the trajectory (TraceRL)."""

    steps: int = Field(default=100, ge=1)
    """RL steps: each draws prompts, writes responses, grades them and updates the weights."""
    save_every: int = Field(default=10, ge=0)
    """Steps between checkpoints for `--resume`; 0 saves only at the end."""
    minibatches: int = Field(default=1, ge=1)
    """Optimizer steps per epoch: the step's trajectories are shuffled and split into this many."""
    epochs: int = Field(default=1, ge=1)
    """Passes over a step's trajectories, each in a new order, all measured from the policy that
    started the step."""
    run: RunConfig = RunConfig()
    """Where the run keeps its files."""
    model: TrainedModelConfig
    """Which checkpoint is trained."""
    lora: LoRAConfig | None = None
    """Train adapters instead of the weights, which stay as they are; without it every weight is trained."""
    task: TaskConfig
    """What is asked, and how answers are graded."""
    reward: tuple[RewardTerm, ...] = (OutcomeTerm(),)
    """What an answer earns: the weighted sum of these terms, in TOML one `[[reward]]` table each;
    the score of the task's grader, when none is given."""
    engine: EngineConfig = EngineConfig()
    """How many responses are written at the same time."""
    distributed: DistributedConfig = DistributedConfig()
    """How several processes share the work."""
    rollout: RolloutConfig = RolloutConfig()
    """How many trajectories make a step."""
    sampling: SamplingConfig = SamplingConfig()
    """How they are unmasked."""
    filter: FilterConfig = FilterConfig()
    """Which groups are trained on."""
    shaping: ShapingConfig = ShapingConfig()
    """What the length of a response costs."""
    views: Views = TraceViews()
    """The noisy views of a response that are trained."""
    advantage: Advantage = GroupAdvantage()
    """What a reward is compared with."""
    loss: Loss = ClippedLoss()
    """What is minimised."""
    optimizer: PolicyOptimizer = PolicyOptimizerConfig()
    """How the weights change."""
    alarm: AlarmConfig = AlarmConfig()
    """What deserves a warning."""
    eval: EvalSection = EvalSection()
    """When the model is measured."""

    @model_validator(mode="after")
    def _samples_the_policy(self) -> "RLConfig":
        """Refuse rollouts whose log-probabilities are not those that the learner takes."""
        check_trained_parts(self.model, self.lora)
        sampling = self.sampling.to_params()
        if sampling.temperature == 0:
            raise ValueError(
                "sampling.temperature = 0 writes the most likely token, which is not a draw from the "
                "policy: RL needs a temperature above 0"
            )
        if sampling.is_filtered:
            raise ValueError(
                "sampling.top_k, top_p and min_p must be off in RL: the learner's log-probabilities "
                "are over every token, the filtered ones are not"
            )
        if sampling.guidance:
            raise ValueError(
                f"sampling.guidance = {sampling.guidance} must be 0 in RL: the learner's log-probabilities "
                "are under the prompt alone, the guided ones are not"
            )
        if sampling.is_structured:
            raise ValueError(
                "sampling.regex and json_schema must be off in RL: the learner's log-probabilities "
                "are the model's own, those of structured output are conditioned on a match"
            )
        if self.rollout.drafts and sampling.stop:
            raise ValueError(
                f"rollout.drafts = {self.rollout.drafts}: a draft keeps tokens right of those it writes, which "
                "sampling.stop could cut off: leave sampling.stop out, or set rollout.drafts = 0"
            )
        if self.engine.cache != "exact":
            raise ValueError(
                f"engine.cache = {self.engine.cache!r} must be 'exact' in RL: an approximate cache "
                "samples from other log-probabilities than the learner's"
            )
        return self

    @model_validator(mode="after")
    def _trains_every_write(self) -> "RLConfig":
        """Refuse what needs one write per position where the sampler may overwrite tokens or mask them again."""
        if not self.sampling.to_params().revises:
            return self
        subject = (
            "sampling.edit_threshold and remask_threshold let a position be written several times"
        )
        if getattr(self.views, "shrink", 1) > 1:
            raise ValueError(
                f"{subject}, and views.shrink merges denoising steps that may do so: set views.shrink = 1"
            )
        if self.rollout.drafts:
            raise ValueError(
                f"{subject}, and rollout.drafts = {self.rollout.drafts} keeps the tokens that stood at a step "
                "by their last write: set rollout.drafts = 0, or leave both thresholds out"
            )
        return self

    @model_validator(mode="after")
    def _is_a_method(self) -> "RLConfig":
        """Refuse choices that do not go together, or that would have no effect."""
        check_terms(self.reward, self.advantage.has_value_model)
        if self.advantage.has_value_model and self.views.kind != "trace":
            raise ValueError(
                f'advantage.kind = "{self.advantage.kind}": the value model needs the sampler\'s own '
                f'states, which only views.kind = "trace" trains on, not "{self.views.kind}"'
            )
        if self.advantage.kind == "progress" and not self.rollout.drafts:
            raise ValueError(
                'advantage.kind = "progress" compares the drafts of a response, and rollout.drafts = 0 writes none: '
                'set rollout.drafts = 4, or advantage.kind = "group_std"'
            )
        if self.loss.kl > 0 and self.loss.kl_to == "step" and self.is_single_update:
            raise ValueError(
                f"loss.kl = {self.loss.kl} has no effect with minibatches = 1 and epochs = 1: the only "
                "update starts at the policy it is measured from; set minibatches = 2, loss.kl = 0 or "
                'loss.kl_to = "reference"'
            )
        return self

    @model_validator(mode="after")
    def _has_a_teacher(self) -> "RLConfig":
        """Refuse hints without a teacher, a teacher without hints, and blocks that leave nothing to hint at."""
        reads, has = (
            getattr(self.loss, "needs_hints", False),
            getattr(self.views, "has_hints", False),
        )
        if reads and not has:
            raise ValueError(
                f'views.kind = "{self.views.kind}" shows a teacher nothing that the policy does not read, and '
                'loss.kind = "distilled" needs it: set views.kind = "suffix", or loss.kind = "clipped"'
            )
        if has and not reads:
            raise ValueError(
                f'views.kind = "suffix" hints at the response for a teacher, which loss.kind = "{self.loss.kind}" '
                'does not have: set loss.kind = "distilled", or views.kind = "trace"'
            )
        block, longest = self.sampling.block_size, self.sampling.max_tokens
        if has and (block is None or block >= longest):
            raise ValueError(
                f'sampling.block_size = {block}: views.kind = "suffix" shows a teacher positions right of the '
                f"current block: set one below sampling.max_tokens = {longest}"
            )
        return self

    @model_validator(mode="after")
    def _is_a_loss_of_responses(self) -> "RLConfig":
        """Refuse advantages and views that a loss of whole responses cannot use."""
        if not isinstance(self.loss, ViewsLoss):
            return self
        if self.advantage.has_value_model:
            raise ValueError(
                f'loss.kind = "{self.loss.kind}" has one advantage per response, advantage.kind = '
                f'"{self.advantage.kind}" one per token: set loss.kind = "clipped", or advantage.kind = '
                '"group_std"'
            )
        low, high = getattr(self.views, "low", 0.0), getattr(self.views, "high", 1.0)
        if self.loss.bounds_likelihood and (low > 0.01 or high < 1):
            raise ValueError(
                f"views.low = {low}, views.high = {high}: loss.kind = "
                f'"{self.loss.kind}" needs an estimate of the log-likelihood, for which noise levels fill '
                "(0, 1]: set views.high = 1 and views.low to 0.01 or less"
            )
        return self

    @model_validator(mode="after")
    def _scores_moves(self) -> "RLConfig":
        """Refuse what has no likelihood of a move, or no use for it."""
        if not self.scores_moves:
            if getattr(self.loss, "per_move", False):
                raise ValueError(
                    'loss.per_move = true is the ratio of a move: set loss.likelihood = "move", or loss.per_move = '
                    "false"
                )
            return self
        found = next((reason for is_so, reason in self._without_moves() if is_so), None)
        if found:
            raise ValueError(f'{found}, or loss.likelihood = "revealed"')
        return self

    def _without_moves(self) -> Iterator[tuple[bool, str]]:
        """Yield what `loss.likelihood = "move"` does not go together with, and the reason."""
        yield (
            self.sampling.strategy == "gumbel",
            'sampling.strategy = "gumbel" ranks drawn tokens by their confidence plus noise, and whether a draw is '
            'lost has no closed form: set sampling.strategy = "static"',
        )
        yield (
            self.sampling.writes == "image",
            'sampling.writes = "image": loss.likelihood = "move" is of text: set sampling.writes = "text"',
        )
        yield (
            not self.views.is_sampler_path or self.views.kind != "trace",
            'loss.likelihood = "move" scores what the sampler drew in each of its states: set views.kind = "trace" '
            "with shrink = 1 and no train_block",
        )
        yield (
            self.views.post_num > 0,
            f"views.post_num = {self.views.post_num} counts positions right of the response, all of which are part of "
            "a move (views.post_stop): set views.post_num = 0",
        )
        post_stop = getattr(self.views, "post_stop", "score")
        yield (
            self.advantage.has_value_model and post_stop == "ignore",
            f'advantage.kind = "{self.advantage.kind}" averages values over the targets of a move, and '
            'views.post_stop = "ignore" lets the end of the response choose them: set views.post_stop = "score"',
        )
        nll = getattr(self.loss, "nll", 0.0)
        yield (
            nll > 0,
            f"loss.nll = {nll} is the likelihood of tokens, and draws that were lost wrote none: set loss.nll = 0",
        )
        yield (
            self.rollout.drafts > 0,
            f"rollout.drafts = {self.rollout.drafts}: a draft is written in one step, which loses no draw: set "
            "rollout.drafts = 0",
        )
        yield (
            self.rollout.staleness > 0 or getattr(self.loss, "max_importance", None) is not None,
            f"rollout.staleness = {self.rollout.staleness}, loss.max_importance: the engine records no probability "
            "of draws that were lost, by which a move could be weighed: leave both out",
        )
        yield (
            getattr(self.loss, "per_move", False) and post_stop == "ignore",
            'views.post_stop = "ignore" leaves out a part of each move, and loss.per_move = true is of whole ones: '
            'set views.post_stop = "score"',
        )

    @model_validator(mode="after")
    def _weighs_stale_rollouts(self) -> "RLConfig":
        """Refuse responses of older weights where the loss would take them for the policy's own."""
        stale = self.rollout.staleness
        if not stale:
            return self
        if not hasattr(self.loss, "max_importance"):
            raise ValueError(
                f"rollout.staleness = {stale} trains on responses of older weights, which loss.kind = "
                f'"{self.loss.kind}" cannot weigh: set loss.kind = "clipped" with loss.max_importance = 2, or '
                "rollout.staleness = 0"
            )
        if getattr(self.loss, "max_importance", None) is None:
            raise ValueError(
                f"rollout.staleness = {stale} trains on responses of older weights, which loss.max_importance "
                "weighs, and it is not given: set loss.max_importance = 2, or rollout.staleness = 0"
            )
        if not self.views.is_sampler_path:
            raise ValueError(
                f"rollout.staleness = {stale} weighs a token by its probability in the view it was drawn in, "
                'which only views.kind = "trace" with shrink = 1 and no train_block trains on: set these, or '
                "rollout.staleness = 0"
            )
        if self.filter.refill:
            raise ValueError(
                f"filter.refill = {self.filter.refill} draws prompts that depend on the grades of a step, and "
                f"rollout.staleness = {stale} asks for the next ones before: set filter.refill = 0 or "
                "rollout.staleness = 0"
            )
        return self

    @model_validator(mode="after")
    def _shaping_fits(self) -> "RLConfig":
        """Refuse length limits that no response, or every response, would meet."""
        shaping, longest = self.shaping, self.sampling.max_tokens
        if shaping.forfeit_tokens is not None and shaping.forfeit_tokens >= longest - 1:
            raise ValueError(
                f"shaping.forfeit_tokens = {shaping.forfeit_tokens} leaves no response that could earn "
                f"anything with sampling.max_tokens = {longest}: make it smaller"
            )
        if shaping.overlong_penalty and shaping.overlong_tokens > longest:
            raise ValueError(
                f"shaping.overlong_tokens = {shaping.overlong_tokens} is more than "
                f"sampling.max_tokens = {longest}"
            )
        return self

    @property
    def scores_moves(self) -> bool:
        """Whether whole moves are scored, not the tokens that were revealed alone."""
        return getattr(self.loss, "likelihood", "revealed") == "move"

    @property
    def records_behavior(self) -> bool:
        """Whether the engine recorded log-probabilities of what was written, by the policy and in the views trained."""
        return self.views.is_sampler_path and not self.rollout.staleness

    @property
    def has_old_behavior(self) -> bool:
        """Whether it recorded those of all targets: draws that were lost have none."""
        return self.records_behavior and not self.scores_moves

    @property
    def is_single_update(self) -> bool:
        """Whether a step has one update, which starts at the policy it is measured from."""
        return self.minibatches == 1 and self.epochs == 1
