"""The cache of keys and values: one tensor each for all layers, `(layers, M, W, Hk, E)`.

In this version a page holds one whole sequence, so `W` is the longest sequence and `M` the most that
ran at once. Page `SCRAP` belongs to no sequence: padding rows write there.
"""

import torch
import torch.nn.functional as F

from unmask.models.attention import pad_keys
from unmask.models.transformer import Model

SCRAP = 0


class PagePool:
    """The stacked cache tensors, grown when more or longer sequences come."""

    def __init__(self, model: Model) -> None:
        """Reserve nothing yet: the size is known when requests come."""
        spec = model.spec
        shape = (spec.num_layers, 0, 0, spec.num_kv_heads, spec.head_width)
        self.keys = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self.values = torch.zeros_like(self.keys)

    @property
    def width(self) -> int:
        """`W`, tokens of a page."""
        return self.keys.shape[2]

    def reserve(self, num_pages: int, length: int) -> None:
        """Make room for pages below `num_pages` of at least `length` tokens, keeping what they hold."""
        pages = max(0, num_pages - self.keys.shape[1])
        tokens = max(0, pad_keys(length) - self.width)
        if pages or tokens:
            # Zeros, not empty memory: a masked key of NaN would still spoil the weighted sum of values.
            more = (0, 0, 0, 0, 0, tokens, 0, pages)
            self.keys, self.values = F.pad(self.keys, more), F.pad(self.values, more)
