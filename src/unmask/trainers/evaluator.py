"""Evaluation in the course of training: when it is due, and under which names it is logged."""

from unmask.configs.evaluation import EvalSection
from unmask.configs.sampling import SamplingConfig
from unmask.engine.llm import LLM
from unmask.evaluation.evaluate import evaluate
from unmask.rollouts.collect import check_room
from unmask.tasks.task import Task


class Evaluator:
    """Measures the model every so often, on the same problems with the same random numbers."""

    def __init__(
        self, llm: LLM, task: Task, config: EvalSection, sampling: SamplingConfig, seed: int
    ) -> None:
        """Read the problems.

        Args:
            llm: the model under training.
            task: asks and judges.
            config: when and on what.
            sampling: how answers are unmasked where the config does not say.
            seed: of the run.

        Raises:
            ValueError: if there are none, or one has no room for a response.
        """
        self._llm, self._task, self._config, self._seed = llm, task, config, seed
        self._sampling = (config.sampling or sampling).to_params(n=config.samples)
        problems = task.prompts(config.split)[: config.problems] if config.problems else ()
        self._prompts = llm.tokenize(problems)
        check_room(llm, self._prompts, self._sampling)

    def is_due(self, step: int, last_step: int) -> bool:
        """Say whether the model is measured after this step."""
        every = self._config.every
        return bool(self._prompts) and (step == last_step or (every > 0 and step % every == 0))

    def measure(self) -> dict[str, float]:
        """Return the numbers of an evaluation, as they stand in `metrics.jsonl`."""
        summary, _ = evaluate(self._llm, self._task, self._prompts, self._sampling, self._seed)
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
