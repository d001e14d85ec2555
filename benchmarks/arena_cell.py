"""One run of the arena: RL from an SFT model until both budgets are reached, measured on the way and at the end.

`rl_steps` is the loop of `trainers/rl.py` without its files, so that a run takes no time for checkpoints,
reports and starting a grader, and may end where its budgets are reached; a test compares the two.

*Forwarded tokens* are the rows of all forward passes of whole models: of the engine while it writes responses
and drafts (`sampler`), and of the policy, the reference and the critic while views are scored and trained
(`learner`). A row counts once per pass, whether a backward pass follows or not. Evaluations are not counted.
"""

import math
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from unmask.configs.methods.views.trace import TraceViews
from unmask.configs.rl import RLConfig
from unmask.configs.task import TaskConfig
from unmask.data.shuffled import Shuffled
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.evaluation.evaluate import evaluate
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ValueModel
from unmask.rewards.build import build_rewards
from unmask.rollouts.batch import Batch
from unmask.rollouts.collect import grade_trajectories, write_trajectories
from unmask.rollouts.drafts import write_drafts
from unmask.rollouts.metrics import rollout_metrics
from unmask.rollouts.shaping import forfeit_overlong
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.trainers.learner import Learner
from unmask.trainers.rl_update import RLUpdate, build_update
from unmask.trainers.rollout_views import rollout_views
from unmask.types import Group, Prompt

# Keep the draws of the measurements apart from those of the steps, which are counted from 1.
NOISE, GAP = 2**33, 2**34
# Leaves every weight as it is: less than the last bit of any.
NO_RATE = 1e-30
# Updates between evaluations whose metrics are averaged.
LOGGED = ("reward", "groups_kept", "entropy", "gradient_norm", "value_explained_variance")


@dataclass(frozen=True, slots=True)
class Budgets:
    """Where a run is read off and ended.

    Attributes:
        rollouts: N.
        tokens: F; 0 ends the run at N.
        every: RL steps between evaluations.
        cpu_limit_s: CPU seconds of rollouts and updates after which it is ended in any case.
        measured_from: rollouts before which it is not evaluated.
    """

    rollouts: int
    tokens: int
    every: int
    cpu_limit_s: float
    measured_from: int = 0


@dataclass(slots=True)
class ForwardedTokens:
    """The rows of forward passes, by the part of a run that they belong to."""

    rows: Counter[str] = field(default_factory=Counter[str])
    _part: str | None = None

    @contextmanager
    def of(self, part: str) -> Generator[None, None, None]:
        """Count the passes inside the `with` as those of a part."""
        self._part = part
        try:
            yield
        finally:
            self._part = None

    def __call__(self, module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        """Count a pass; called before the forward of every module."""
        if self._part is not None and isinstance(module, Model | ValueModel | ActorCritic):
            self.rows[self._part] += len(inputs[0])


def run_cell(
    configs: Sequence[RLConfig],
    budgets: Budgets,
    thresholds: Sequence[float] = (),
    noise_batches: int = 0,
) -> dict[str, Any]:
    """Return the learning curve of a run and the measurements of its first and its last policy.

    Args:
        configs: of its phases, which have equal shares of `budgets.rollouts`.
        budgets: its ends.
        thresholds: at which the last policy is measured by dynamic sampling.
        noise_batches: batches of the gradient's variance at the first policy; 0 leaves it out.
    """
    begin, first, last = time.process_time(), configs[0], configs[-1]
    task = _task(first.task)
    llm = build_llm(first.model, first.engine)
    noise = gradient_noise(first, llm, task, noise_batches) if noise_batches else None
    curve = Curve(llm, task)
    ended = _learn(configs, curve, budgets)
    asked = _problems(last, llm, task)
    sampling = _eval_sampling(last)
    parallelism = [
        {"threshold": threshold, **_measured(llm, task, asked, at, last.run.seed)}
        for threshold in thresholds
        for at in [replace(sampling, strategy="dynamic", threshold=threshold)]
    ]
    return {
        "points": curve.points,
        **ended,
        "noise": noise,
        "gap": logprob_gap(last, llm, task) if thresholds else None,
        "parallelism": parallelism,
        "total_cpu_s": round(time.process_time() - begin, 2),
    }


@dataclass(slots=True)
class Curve:
    """The learning curve of a run: what its steps have spent, and its evaluations."""

    llm: LLM
    task: Task
    tokens: ForwardedTokens = field(default_factory=ForwardedTokens)
    points: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    step: int = 0
    rollouts: int = 0
    cpu_s: float = 0.0
    _logged: list[Mapping[str, float]] = field(default_factory=list[Mapping[str, float]])

    def steps(self, config: RLConfig) -> Iterator[None]:
        """Take RL steps without end, and keep account of each."""
        before = time.process_time()
        for metrics in rl_steps(config, self.llm, self.task, self.tokens):
            self.cpu_s += time.process_time() - before
            self.step += 1
            self.rollouts += int(metrics["groups_drawn"]) * config.rollout.responses
            self._logged.append(metrics)
            yield
            before = time.process_time()

    def measure(self, config: RLConfig) -> None:
        """Evaluate the policy, and add a point with the means of the steps since the last one."""
        asked = _problems(config, self.llm, self.task)
        sampling = _eval_sampling(config)
        spent = {
            "step": self.step,
            "rollouts": self.rollouts,
            "sampler_tokens": self.tokens.rows["sampler"],
            "learner_tokens": self.tokens.rows["learner"],
            "cpu_s": round(self.cpu_s, 3),
        }
        found = _measured(self.llm, self.task, asked, sampling, config.run.seed)
        self.points.append({**spent, **found, **_means(self._logged)})
        self._logged = []


def _learn(configs: Sequence[RLConfig], curve: Curve, budgets: Budgets) -> dict[str, Any]:
    """Fill the learning curve of a run, and return how it ended."""
    hook = register_module_forward_pre_hook(curve.tokens)
    if not budgets.measured_from:
        curve.measure(configs[0])
    try:
        for phase, config in enumerate(configs, start=1):
            limit, is_last = budgets.rollouts * phase / len(configs), phase == len(configs)
            for _ in curve.steps(config):
                is_due = curve.step % budgets.every == 0
                if is_due and curve.rollouts >= budgets.measured_from:
                    curve.measure(config)
                if is_due and curve.cpu_s > budgets.cpu_limit_s:
                    return {"ended": "cpu limit", "failure": None}
                is_over = is_due and curve.tokens.rows.total() >= budgets.tokens
                if curve.rollouts >= limit and (is_over or not is_last):
                    break
    except (ValueError, FloatingPointError) as error:  # such as a gradient that is not finite
        if curve.step == 0:  # what the method refuses, not what it ran into
            raise
        curve.measure(configs[-1])
        return {"ended": "failure", "failure": str(error)[:200]}
    finally:
        hook.remove()
    return {"ended": "budgets", "failure": None}


def rl_steps(
    config: RLConfig, llm: LLM, task: Task, tokens: ForwardedTokens
) -> Iterator[dict[str, float]]:
    """Take RL steps without end, and yield the metrics of each."""
    update = build_update(config, llm.model)
    source = Shuffled(llm.tokenize(task.prompts("train")), config.run.seed)
    for step in count(1):
        seed = derive_seed(config.run.seed, step)
        with tokens.of("sampler"):
            batch = _batch(config, llm, task, source, seed)
            trained = _trained(config, llm, task, batch)
        with tokens.of("learner"):
            metrics = _update(config, llm, update, trained, step, seed)
        llm.engine.update_weights()
        yield metrics | rollout_metrics(batch.groups, batch.kept, 1.0) | batch.numbers()


def _batch(config: RLConfig, llm: LLM, task: Task, source: Shuffled[Prompt], seed: int) -> Batch:
    """Write and grade the responses of a step."""
    responses = config.rollout.responses
    sampling = config.sampling.to_params(n=responses)
    rewards = build_rewards(config, llm.require_tokenizer(), llm.model.device)
    batch = Batch(config.rollout.prompts, config.filter)
    while batch.is_open:
        drawn = [draw.item for draw in source.draw(batch.missing)]
        trajectories = write_trajectories(llm, drawn, sampling, batch.seed(seed))
        graded = grade_trajectories(llm, task, trajectories, responses, rewards)
        batch.add(forfeit_overlong(graded, config.shaping))
    return batch


def _trained(config: RLConfig, llm: LLM, task: Task, batch: Batch) -> Sequence[Group]:
    """Return what is trained on: the groups of a batch, or of drafts of their responses."""
    if not config.rollout.drafts:
        return batch.kept
    rewards = build_rewards(config, llm.require_tokenizer(), llm.model.device)
    drafts = write_drafts(llm, batch.kept, config.rollout.drafts)
    size = config.rollout.responses * config.rollout.drafts
    graded = grade_trajectories(llm, task, drafts, size, rewards)
    return forfeit_overlong(graded, config.shaping)


def _update(
    config: RLConfig, llm: LLM, update: RLUpdate, trained: Sequence[Group], step: int, seed: int
) -> dict[str, float]:
    views = rollout_views(trained, config, llm.model.spec.is_full, step)
    return update.step(trained, views, step, seed)


def gradient_noise(config: RLConfig, llm: LLM, task: Task, batches: int) -> dict[str, float] | None:
    """Return variance and squared mean of a method's gradient at the policy as it is.

    Each of `batches` independent batches, of half the prompts of a step, gives one gradient `g_b` of a single
    update. The variance is the trace of their covariance, the squared mean the unbiased estimate of
    `|E g|^2`: the mean of `g_a . g_b` over pairs. None with a critic, which is not trained yet here.
    """
    if config.advantage.has_value_model:
        return None
    rollout = config.rollout.model_copy(update={"prompts": config.rollout.prompts // 2})
    optimizer = config.optimizer.model_copy(update={"lr": NO_RATE, "clip_norm": None})
    changes = {"minibatches": 1, "epochs": 1, "rollout": rollout, "optimizer": optimizer}
    single = config.model_copy(update=changes)
    update, found = build_update(single, llm.model), list[Tensor]()
    zero = torch.zeros(sum(p.numel() for p in llm.model.parameters()))

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))

    hook = register_optimizer_step_pre_hook(keep)
    try:
        source = Shuffled(llm.tokenize(task.prompts("train")), derive_seed(config.run.seed, NOISE))
        for number in range(1, batches + 1):
            seed = derive_seed(config.run.seed, NOISE + number)
            batch = _batch(single, llm, task, source, seed)
            _update(single, llm, update, _trained(single, llm, task, batch), number, seed)
            if len(found) < number:  # no group to learn from
                found.append(zero)
    finally:
        hook.remove()
    return noise_of(torch.stack(found))


def noise_of(gradients: Tensor) -> dict[str, float]:
    """Return variance and squared mean, both unbiased, of independent gradients `(B, D)`."""
    gradients = gradients.double()
    number = len(gradients)
    variance = float(gradients.var(0).sum())
    return {
        "variance": variance,
        "squared_mean": float(gradients.mean(0).square().sum()) - variance / number,
    }


def logprob_gap(config: RLConfig, llm: LLM, task: Task) -> dict[str, float]:
    """Return mean and largest distance between the engine's and the learner's log-probability of a token.

    Of responses that the policy writes, in the states in which they were written, whatever is trained on: of the
    tokens written, since an engine records no probability of draws that were lost.
    """
    changes = {"likelihood": "revealed"} if config.scores_moves else {}
    plain = config.model_copy(
        update={
            "views": TraceViews(),
            "loss": config.loss.model_copy(update=changes),
            "filter": config.filter.model_copy(update={"drop_uniform": False, "refill": 0}),
        }
    )
    source = Shuffled(llm.tokenize(task.prompts("train")), derive_seed(config.run.seed, GAP))
    batch = _batch(plain, llm, task, source, derive_seed(config.run.seed, GAP))
    kept = batch.groups[:8]
    views = rollout_views(kept, plain, llm.model.spec.is_full)
    scored = Learner(llm.model, config.optimizer).score(views)
    gaps = torch.cat(
        [
            (own.cpu() - view.old_logprobs.cpu()).abs()[view.target.cpu()]
            for own, view in zip(scored, views, strict=True)
        ]
    )
    return {"mean": float(gaps.mean()), "max": float(gaps.max())}


def _problems(config: RLConfig, llm: LLM, task: Task) -> list[Prompt]:
    return llm.tokenize(task.prompts(config.eval.split)[: config.eval.problems])


def _eval_sampling(config: RLConfig) -> SamplingParams:
    return (config.eval.sampling or config.sampling).to_params()


def _measured(
    llm: LLM, task: Task, asked: Sequence[Prompt], sampling: SamplingParams, seed: int
) -> dict[str, float]:
    summary, _ = evaluate(llm, task, asked, sampling, seed)
    return {
        "accuracy": summary.accuracy,
        "tokens_per_denoising_step": round(summary.tokens_per_denoising_step, 4),
    }


def _means(logged: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the steps that have it, where it is finite."""
    found = {name: [m[name] for m in logged if name in m] for name in LOGGED}
    means = {name: sum(values) / len(values) for name, values in found.items() if values}
    return {name: round(mean, 5) for name, mean in means.items() if math.isfinite(mean)}


@cache
def _opened(task: str) -> Task:
    """Return a task, whose grader stays open for all runs of the process."""
    from pydantic import TypeAdapter

    return build_task(TypeAdapter[TaskConfig](TaskConfig).validate_json(task))


def _task(config: TaskConfig) -> Task:
    return _opened(config.model_dump_json())
