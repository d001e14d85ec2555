"""The image tower of SigLIP: a transformer over the patches of a square, without its last layers.

Patches are the output of a convolution whose stride is its size; positions are learned; there is no class
token. LLaVA models read the output of the last layer that is kept *without* the final norm, which their
checkpoints hold all the same. The layers are those of transformers. SigLIP 2 of a fixed resolution is the
same network.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (2023); Tschannen et al., "SigLIP 2" (2025).
"""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class SiglipSpec:
    """Sizes of a tower; the defaults are `google/siglip2-so400m-patch14-384` without its last layer."""

    width: int = 1152
    ffn_width: int = 4304
    num_layers: int = 26
    num_heads: int = 16
    image_size: int = 384
    patch_size: int = 14
    norm_eps: float = 1e-6

    @property
    def side(self) -> int:
        """Patches in each direction; pixels beyond the last whole one are not read."""
        return self.image_size // self.patch_size


class SiglipTower(nn.Module):
    """The tower.

    Args:
        spec: its sizes.
    """

    def __init__(self, spec: SiglipSpec) -> None:
        super().__init__()
        from transformers import SiglipVisionConfig
        from transformers.models.siglip.modeling_siglip import SiglipEncoder

        config = SiglipVisionConfig(
            hidden_size=spec.width,
            intermediate_size=spec.ffn_width,
            num_hidden_layers=spec.num_layers,
            num_attention_heads=spec.num_heads,
            layer_norm_eps=spec.norm_eps,
            attn_implementation="sdpa",  # pyright: ignore[reportCallIssue]
        )
        self.patches = nn.Conv2d(3, spec.width, spec.patch_size, stride=spec.patch_size)
        self.positions = nn.Embedding(spec.side**2, spec.width)
        self.encoder = SiglipEncoder(config)  # pyright: ignore[reportArgumentType]
        self.post_layernorm = nn.LayerNorm(spec.width, spec.norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the vectors of all patches, row by row: `(B, side * side, width)`.

        Args:
            pixels: `(B, 3, image_size, image_size)` in [-1, 1].
        """
        patches = self.patches(pixels).flatten(2).mT + self.positions.weight
        return self.encoder(inputs_embeds=patches).last_hidden_state
