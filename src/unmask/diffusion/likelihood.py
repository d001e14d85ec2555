"""How noisy views estimate the log-likelihood of a response.

    log p(response) ~ mean over draws of sum over the draw's views n and targets i of w_ni log pi(x_i | view n)

Along a trajectory there is one draw, every weight is 1 and the sum is the log-probability of the revealed
tokens. Under random masks that hide a token with probability t the weight is 1/t, and each mask is a draw:
the estimate is unbiased for the ELBO where t is uniform on (0, 1] (arXiv 2503.09573).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The weights of an estimate of a response's log-likelihood.

    Attributes:
        weight: `(N, C)` fp64, what the log-probability of each target counts; 0 where there is none, or where it
            has no part in the estimate.
        draw: `(N,)` number of the draw that each view belongs to; each draw is an estimate of its own.
        trained: `(C,)` bool, the positions of the response that are trained.
    """

    weight: Tensor
    draw: Tensor
    trained: Tensor
