"""Memory of one forward and backward pass, and the tokens of a pass that it leaves room for.

On top of weights, gradients and moments, a pass of `T` tokens of which `S` are scored takes, at the start of its
backward pass,

    kept       what autograd saves in all layers (`planning/sizes.py`); the inputs of the layers, where they are
               recomputed
    working    the larger of the head's chunk of logits with its gradients, and the gradients inside one layer;
               a recomputed layer holds what it saves then

`optimizer.memory = "auto"` sets the tokens of a pack by the memory of the published layout. dLLM-RL trains one row
per denoising round, padded to the longest prompt `P` and response `C` of the step: `[prompt | clean | noisy]`, `P +
2 C` tokens of one row a pass (`batch_size_lm: 1` in its configs of SDAR and TraDo), or `P + C` tokens of
two rows under full attention (`batch_size_lm: 2` in those of LLaDA and Dream). It has logits of every token and their
log-softmax over `P + C` positions, which its backward pass needs three times. The largest pack whose pass takes
nine tenths of that by the formulas here, or half of it where layers are recomputed, is the budget (`PUBLISHED_SHARE`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from unmask.models.heads import CHUNK_ELEMENTS
from unmask.models.spec import ModelSpec
from unmask.planning.sizes import saved_bytes

# Tensors of logits alive at a time when a chunk, or a published row, is scored in fp32.
SCORED_COPIES = 3
ROWS = {False: 1, True: 2}  # of a published pass, by full attention
# Of the published memory, by whether layers are recomputed. Views and packs, which the formulas leave out, take a tenth
# of a pass.
PUBLISHED_SHARE = {False: 0.9, True: 0.5}
# A pass has a fixed cost: below this many bytes of activations packs are too small for it.
LEAST_BYTES = 64 * 2**20
# Tokens. A GPU is busy with so many, and fills smaller packs up to the budget.
MOST_TOKENS = {"cpu": 2**22, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class PassCost:
    """What the memory of a pass depends on.

    Attributes:
        spec: of the model.
        width: bytes of a number of the weights.
        is_cpu: whether it is computed on a CPU.
        is_checkpointed: whether activations are recomputed layer by layer.
        is_frozen: whether weights, or some of them, are not trained.
        head_gradient: bytes of the gradient of the head's weight; 0 where it is not trained.
        has_logits: whether there is a language head.
    """

    spec: ModelSpec
    width: int
    is_cpu: bool
    is_checkpointed: bool
    is_frozen: bool
    head_gradient: int
    has_logits: bool = True

    def kept(self, tokens: int) -> float:
        """Return the bytes that are kept for the backward pass."""
        if self.is_checkpointed:
            return self.spec.num_layers * tokens * self.spec.width * self.width
        return sum(size * count for size, count in self._saved(tokens))

    def in_layer(self, tokens: int) -> float:
        """Return the bytes of the backward pass of a layer, and what it saves where it is recomputed."""
        recomputed = max(self._saved(tokens))[0] if self.is_checkpointed else 0
        return recomputed + self.layer_working(tokens)

    def last_layer(self, tokens: int) -> float:
        """Return the bytes of the backward pass of one layer and all that is saved for it."""
        return max(self._saved(tokens))[0] + self.layer_working(tokens)

    def layer_working(self, tokens: int) -> float:
        """Return the bytes of a layer's backward pass on top of what is saved for it.

        Gradients of the product, the gate and the other factor of the feed-forward, of the stream, and of one
        weight; and the activation and the product, which are computed again.
        """
        spec, moe = self.spec, self.spec.moe
        if moe is None:
            rows, weight = 5 * tokens * spec.ffn_width, spec.ffn_width * spec.width
        else:
            rows = 3 * tokens * moe.num_active * max(moe.width, spec.width)
            weight = moe.num_experts * moe.width * spec.width
        return self.width * (rows + 2 * tokens * spec.width + weight)

    def in_head(self, scored: int) -> float:
        """Return the bytes of the head's backward pass: a chunk's logits, and the gradient of its weight.

        Chunks are recomputed one after the other; from the second one on, the sum of their gradients exists
        next to the new one.
        """
        if not self.has_logits:
            return 0
        vocab = self.spec.vocab_size
        most = max(1, CHUNK_ELEMENTS["cpu" if self.is_cpu else "cuda"] // vocab)
        chunk = min(scored, most) * vocab * max(self.width, 4)
        is_cut = scored > most
        scoring = SCORED_COPIES * chunk + (self.head_gradient if is_cut else 0)
        return max(scoring, chunk + (2 if is_cut else 1) * self.head_gradient)

    def peak(self, tokens: int, scored: int) -> float:
        """Return the bytes at the start of the backward pass."""
        return self.kept(tokens) + max(self.in_head(scored), self.in_layer(tokens))

    def of_rows(self, prompt: int, response: int) -> float:
        """Return the bytes of a published pass, padded to the longest prompt and response."""
        count = ROWS[self.spec.is_full]
        tokens = count * (prompt + response * (1 if self.spec.is_full else 2))
        logits = count * (prompt + response) * self.spec.vocab_size * max(self.width, 4)
        head = SCORED_COPIES * logits + self.head_gradient if self.has_logits else 0
        moe = self.spec.moe
        num_dense = self.spec.num_layers - (0 if moe is None else len(moe.layers))
        # The published feed-forward keeps its activation and its product too.
        more = 0 if self.is_checkpointed else 2 * num_dense * tokens * self.spec.ffn_width
        return self.kept(tokens) + more * self.width + max(head, self.in_layer(tokens))

    def _saved(self, tokens: int) -> list[tuple[int, int]]:
        """Return the bytes that a layer saves and the number of such layers, dense and of experts."""
        spec, rest = self.spec, (tokens, self.width, self.is_cpu, self.is_frozen)
        experts = () if spec.moe is None else spec.moe.layers
        dense = [layer for layer in range(spec.num_layers) if layer not in experts]
        kinds = [layers for layers in (dense, experts) if layers]
        return [(saved_bytes(spec, layers[0], *rest), len(layers)) for layers in kinds]


def tokens_of_rows(cost: PassCost, prompt: int, response: int, scored: float = 1.0) -> int:
    """Return the tokens of the largest pack that takes no more memory than a published pass.

    Args:
        cost: of the model.
        prompt: tokens of the longest prompt.
        response: positions of the longest canvas.
        scored: share of the tokens of packs that are scored, at most.
    """
    share = PUBLISHED_SHARE[cost.is_checkpointed]
    return tokens_within(cost, max(LEAST_BYTES, share * cost.of_rows(prompt, response)), scored)


def tokens_within(cost: PassCost, room: float, scored: float = 1.0) -> int:
    """Return the tokens of the largest pack whose pass takes at most so many bytes; 0 if none does."""
    most = MOST_TOKENS["cpu" if cost.is_cpu else "cuda"]
    return largest(lambda tokens: cost.peak(tokens, ceil(scored * tokens)) <= room, most)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to `most` that fits, where all smaller ones do; 0 if none does."""
    least = most if fits(most) else 0
    while least < most:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least
