"""The supervised objective: the negative log-likelihood of the hidden tokens.

With noise level t per block and weight 1/t (`noise.weight = "elbo"`) its expectation bounds
-log p(response) from above (arXiv 2503.09573); with weight 1 it is plain masked prediction, which
trains small models better.
"""

from torch import Tensor


def negative_log_likelihood(logprobs: Tensor) -> Tensor:
    """Return the loss `(S,)` of targets with `logprobs (S,)`."""
    return -logprobs
