"""A batch of responses of which some could not be written: one error, which carries the others."""

from collections.abc import Callable, Mapping, Sequence

from unmask.engine.generation import Generation
from unmask.types import Prompt, Trajectory


class BrokenResponses(ValueError):
    """Some responses of a batch could not be written; the error carries the others.

    Attributes:
        errors: index in the batch to the error of that response.
        trajectories: in the order of the batch, `None` where there is an error.
        generations: the same, as `generate` returns a response; of `n` to each prompt, one after the other.
    """

    def __init__(
        self,
        message: str,
        errors: Mapping[int, ValueError],
        trajectories: Sequence[Trajectory | None],
        generations: Sequence[Generation | None],
    ) -> None:
        """Store the errors and the other responses."""
        super().__init__(message)
        self.errors = errors
        self.trajectories = trajectories
        self.generations = generations


def require_whole(
    prompts: Sequence[Prompt],
    results: Sequence[Trajectory | ValueError],
    generation: Callable[[Trajectory], Generation],
) -> list[Trajectory]:
    """Return the trajectories of a batch.

    Args:
        prompts: of the batch.
        results: one for each.
        generation: trajectory to what `LLM.generate` returns.

    Raises:
        BrokenResponses: if some are errors.
    """
    written = [None if isinstance(r, ValueError) else r for r in results]
    errors = {i: r for i, r in enumerate(results) if isinstance(r, ValueError)}
    if not errors:
        return [trajectory for trajectory in written if trajectory]
    names = list(dict.fromkeys(f"{prompts[i].task} prompt {prompts[i].uid}" for i in errors))
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise BrokenResponses(
        f"{len(errors)} of {len(results)} responses could not be written ({shown}): "
        f"{next(iter(errors.values()))}; the others are the error's generations and trajectories",
        errors,
        written,
        [trajectory and generation(trajectory) for trajectory in written],
    )
