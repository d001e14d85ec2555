"""What the state of a sequence that ended says, as a trajectory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.engine.request import Request
from unmask.engine.sequence_state import TEXTS, Slots
from unmask.types import Trajectory

COLUMNS = (*TEXTS, "start", "forwards", "revised", "num_response", "is_stop")


def read_finished(
    slots: Slots, places: Sequence[int], requests: Sequence[Request], policy_version: int
) -> list[Trajectory | ValueError]:
    """Return the trajectories of sequences that ended; an error for one whose logits were not numbers.

    Args:
        slots: the state.
        places: where each of them stands.
        requests: what each was asked.
        policy_version: of the weights that wrote them.
    """
    if not places:
        return []
    index = torch.tensor(places, dtype=torch.int64, device=slots.start.device)
    columns = {name: getattr(slots, name).index_select(0, index).cpu() for name in COLUMNS}
    states = ({name: columns[name][row] for name in COLUMNS} for row in range(len(places)))
    return [
        _trajectory(request, state, policy_version)
        for request, state in zip(requests, states, strict=True)
    ]


def _trajectory(
    request: Request, state: dict[str, Tensor], policy_version: int
) -> Trajectory | ValueError:
    if state["num_response"] < 0:
        return ValueError(
            f"request {request.number}: the model's logits are not numbers (NaN or infinite) at "
            f"denoising step {int(state['step_map'].max())}; its weights, or its number format, "
            "are broken"
        )
    end = request.max_length if request.is_full else int(state["start"]) + request.block
    canvas = slice(len(request.prompt.token_ids), end)
    texts = {name: tuple(state[name][canvas].tolist()) for name in TEXTS}
    return Trajectory(
        prompt=request.prompt,
        canvas_ids=texts["tokens"],
        step_map=texts["step_map"],
        behavior_logprobs=texts["logprobs"],
        num_response=int(state["num_response"]),
        finish="stop" if state["is_stop"] else "length",
        policy_version=policy_version,
        sampling=request.sampling,
        num_forwards=int(state["forwards"]),
        revised=bool(state["revised"]),
        raw_logprobs=texts["raw_logprobs"],
        entropies=texts["entropies"],
    )
