"""Evaluation in the course of training: when it is due, and under which names it is logged."""

from unmask.configs.rl import RLConfig
from unmask.configs.sampling import SamplingConfig
from unmask.configs.training import PolicyConfig
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.evaluation.evaluate import evaluate
from unmask.rollouts.collect import check_room
from unmask.tasks.task import Task
from unmask.trainers.schedule import is_due


class Evaluator:
    """Measures the model every so often, on the same problems with the same random numbers."""

    def __init__(self, llm: LLM, task: Task, config: PolicyConfig, world: World = ALONE) -> None:
        """Read the problems.

        Args:
            llm: the model under training.
            task: asks and grades.
            config: of the run; `eval` holds when, on what, and with which sampling.
            world: the ranks, which share the problems.

        Raises:
            ValueError: if there are none, or one has no room for a response.
        """
        self._llm, self._task, self._config, self._seed = llm, task, config.eval, config.run.seed
        self._world = world
        own = config.sampling if isinstance(config, RLConfig) else SamplingConfig()
        self._sampling = (config.eval.sampling or own).to_params(n=config.eval.samples)
        count = config.eval.problems
        problems = task.prompts(config.eval.split)[:count] if count else ()
        self._prompts = llm.tokenize(problems, self._sampling.writes)
        check_room(llm, self._prompts, self._sampling)

    def is_due(self, step: int, last_step: int) -> bool:
        """Return whether the model is evaluated after this step."""
        return bool(self._prompts) and is_due(step, last_step, self._config.every)

    def measure(self) -> dict[str, float]:
        """Return the metrics of an evaluation."""
        asked = (self._llm, self._task, self._prompts, self._sampling, self._seed, self._world)
        summary, _ = evaluate(*asked)
        low, high = summary.ci95
        return {
            "eval_accuracy": summary.accuracy,
            "eval_accuracy_low": low,
            "eval_accuracy_high": high,
            "eval_reward": summary.reward,
            "eval_tokens_per_denoising_step": summary.tokens_per_denoising_step,
            "eval_response_tokens": summary.response_tokens,
            "eval_truncated": summary.truncated,
        }
