"""Equal confidences, and confidences equal to a limit, in fp32: a move is as probable as its draws.

Distributions of few exact numbers make ties frequent, and every draw of a step is put through `decide`.
"""

import random
from collections import defaultdict
from itertools import product
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.moves import Factors, MoveRules, move_logprobs
from unmask.diffusion.sampling_tensors import SamplingTensors
from unmask.diffusion.token_sampling import Proposal
from unmask.diffusion.unmask import Block, decide
from unmask.sampling_params import SamplingParams

ROWS = (
    (0.5, 0.25, 0.25),
    (0.25, 0.5, 0.25),
    (0.25, 0.25, 0.5),
    (0.5, 0.5, 0.0),
    (0.75, 0.125, 0.125),
)


def params_of(rng: random.Random, size: int) -> SamplingParams:
    """Draw parameters whose limits are confidences that occur."""
    given: dict[str, Any] = {
        "strategy": rng.choice(["static", "dynamic", "factor"]),
        "temperature": rng.choice([1.0, 1.0, 0.5, 2.0]),
        "confidence": rng.choice(["raw", "filtered"]),
        "threshold": rng.choice([0.25, 0.5, 0.75]),
        "factor": rng.choice([0.5, 0.75, 1.0, 1.5, 2.0]),
        "edit_threshold": rng.choice([None, 0.25, 0.5]),
    }
    return SamplingParams(block_size=size, **given)


def block_of(rng: random.Random, size: int, edits: bool) -> Block:
    """Draw the state of a block: all hidden, or some written where edits are possible."""
    hidden = torch.tensor([[not edits or rng.random() < 0.7 for _ in range(size)]])
    hidden[0, 0] |= not hidden.any()
    one = torch.ones(1, dtype=torch.int64)
    tokens = torch.tensor([[rng.randrange(3) for _ in range(size)]])
    places, quotas = torch.arange(size)[None], torch.tensor([rng.choice([1, 1, 2])])
    return Block(tokens, hidden, ~hidden, places, one - 1, one, quotas)


def outcomes_of(
    logits: Tensor, block: Block, params: SamplingParams
) -> dict[tuple[int, ...], float]:
    """Return the probability of each move: the tokens written, -1 where none was."""
    sampling = SamplingTensors.of([params], torch.device("cpu"))
    raw = logits.log_softmax(-1)
    proposal = (logits / params.temperature).log_softmax(-1)
    ranking = proposal if params.confidence == "filtered" else raw
    found: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for drawn in product(range(3), repeat=len(logits)):
        tokens = torch.tensor([drawn])
        logprobs, confidence = (x.gather(1, tokens.T).T for x in (proposal, ranking))
        none = torch.zeros_like(logprobs)
        parts = tokens, logprobs, none, none, confidence.exp(), none, none, none + 1
        chosen = decide(Proposal(*parts), block, sampling).chosen
        found[tuple(tokens.where(chosen, -1)[0].tolist())] += float(logprobs.double().sum().exp())
    return {move: probability for move, probability in found.items() if probability}


def probability_of(move: Tensor, logits: Tensor, block: Block, params: SamplingParams) -> float:
    """Return the probability of a move, by its factors."""
    rules, chosen = MoveRules.of(params), move[None] >= 0
    may_change = block.written & rules.edits
    kinds = rules.kinds(block.hidden, may_change, chosen, torch.zeros_like(chosen))[0]
    place = kinds.nonzero()[:, 0]
    numbers = torch.tensor([rules.numbers], dtype=torch.float64).expand(len(place), -1)
    factors = Factors.of(kinds[place].long(), torch.zeros_like(place), place, numbers)
    ids = move.where(chosen[0], block.tokens[0])[place]
    temperatures = torch.full((len(place),), params.temperature)
    found = move_logprobs(logits[place], ids, temperatures, factors)
    return float(found.double().sum().exp())


def test_a_move_is_as_probable_as_its_draws_where_confidences_are_equal() -> None:
    rng, count = random.Random(0), 0
    for _ in range(150):
        size = rng.choice([2, 3, 4])
        params = params_of(rng, size)
        block = block_of(rng, size, params.edit_threshold is not None)
        logits = torch.tensor([rng.choice(ROWS) for _ in range(size)]).log()
        for move, expected in outcomes_of(logits, block, params).items():
            found = probability_of(torch.tensor(move), logits, block, params)
            assert abs(found - expected) < 1e-5, (params, move)
            count += 1
    assert count > 500
