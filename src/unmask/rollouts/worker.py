"""One rollout worker: a model and its engine, in a process of its own.

It loads the model that the learner started from, receives the learner's weights before its first response,
and writes the responses that it is asked for. It decides nothing: seeds come with the requests, so a response
is the same from every worker. `rollouts/workers.py` starts it as an actor of Ray; this module does not import
Ray.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition

import torch

from unmask.configs.engine import EngineConfig
from unmask.configs.lora import LoRAConfig
from unmask.configs.model import ModelConfig
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.trained_parts import choose_trained
from unmask.rollouts.weight_broadcast import (
    Group,
    Layout,
    Meeting,
    check_layout,
    join,
    receive,
    trained_weights,
)
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker loads.

    Attributes:
        model: the learner's, on the device of the worker.
        engine: its size.
        lora: adapters, whose weights the learner sends.
        threads: of torch: another number gives other last bits.
    """

    model: ModelConfig
    engine: EngineConfig
    lora: LoRAConfig | None
    threads: int


class RolloutWorker:
    """A model and its engine; `receive` may be called while `write` runs in another thread."""

    def __init__(self) -> None:
        """Load nothing yet."""
        self._group: Group = None
        self._meeting: Meeting | None = None
        self._turn = Condition()
        self._num_waiting = 0
        self._llm: LLM | None = None

    def load(self, spec: WorkerSpec) -> None:
        """Load the model.

        Raises:
            ValueError: it cannot be loaded.
        """
        torch.set_num_threads(spec.threads)
        self._llm = build_llm(spec.model, spec.engine)
        choose_trained(self._llm.model, spec.model.trains)
        if spec.lora is not None:
            add_lora(self._llm.model, LoRAParams(**spec.lora.model_dump()))
            self._llm.engine.update_weights(version=0)

    def ping(self) -> None:
        """Return, if the process lives."""

    def receive(self, meeting: Meeting, rank: int, layout: Layout, version: int) -> None:
        """Take the weights that the learner sends; unfinished responses continue under them.

        Args:
            meeting: of the process group; its members stay connected as long as it is the same.
            rank: of this worker in the group.
            layout: of the tensors that are sent.
            version: of the weights.

        Raises:
            ValueError: they are not the model's.
            RuntimeError: a member of the group died; the weights are then unknown until the next call.
        """
        assert self._llm is not None
        self._num_waiting += 1
        with self._turn:
            try:
                check_layout(trained_weights(self._llm.model, 0, False).tensors.items(), layout)
                if self._group is None or meeting != self._meeting:
                    self._group, self._meeting = join(meeting, rank), meeting
                tensors = receive(self._group, layout, self._llm.model.device)
                self._llm.engine.update_weights(tensors, version, continues=True)
            except BaseException:
                self._group = (
                    None  # closes its connections, so that no other member waits for this one
                )
                raise
            finally:
                self._num_waiting -= 1
                self._turn.notify_all()

    def write(self, requests: Sequence[tuple[Prompt, SamplingParams]]) -> list[Trajectory]:
        """Return one trajectory per request, in order.

        Raises:
            ValueError: some responses could not be written.
        """
        assert self._llm is not None
        prompts, params = [prompt for prompt, _ in requests], [one for _, one in requests]
        with self._turn:
            try:
                return self._llm.complete(prompts, params, before_tick=self._give_way)
            except ValueError as error:
                # Errors that carry trajectories do not travel.
                raise ValueError(str(error)) from None

    def _give_way(self) -> None:
        """Let weights that wait be received between two passes of the engine."""
        self._turn.wait_for(lambda: not self._num_waiting)
