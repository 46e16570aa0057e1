"""JPEG: fine patterns are rounded away."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from trustml.contracts import Domain
from trustml.defenses._before import Before, image_shape, straight_through
from trustml.errors import BadOption, NotApplicable
from trustml.registry import safeguard

SIDE = 8
# Annex K of ITU-T T.81: how coarsely each of 8x8 frequencies is kept, at quality 50.
GREY = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
COLOUR = (
    (17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99),
)  # fmt: skip
# ITU-T T.871: red, green, blue → brightness and two differences of colour.
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@safeguard(
    source="Dziugaite et al. 2016, arXiv:1608.00853; ITU-T T.81",
    stage="serving",
    beaten_by="its gradient taken as that of the identity",
    does_not_stop="changes of large scale, patches, strokes, triggers",
)
def jpeg(model: nn.Module, domain: Domain, /, *, quality: int = 50, bpda: bool = True) -> nn.Module:
    """Put the model behind JPEG compression, colours at full resolution.

    Args:
        model: what is guarded.
        domain: of its inputs.
        quality: 1 to 100, as the usual libraries count it.
        bpda: gradients pass where frequencies and pixels are rounded, so that attacks see
            through; without, they are 0, which stops no attacker who knows it.

    Raises:
        BadOption: a quality outside 1 to 100.
        NotApplicable: the inputs are no images of one or three channels.
    """
    if not 1 <= quality <= 100:
        raise BadOption(f"jpeg: quality={quality} is not allowed: 1 to 100")
    channels, _, _ = image_shape("jpeg", domain)
    if channels not in (1, 3):
        raise NotApplicable(f"jpeg needs one or three channels, and these images have {channels}")
    return Before(model, _Jpeg(domain, quality, bpda))


class _Jpeg(nn.Module):
    """Compression and back; tables and transform belong to JPEG, so they are no weights."""

    steps: Tensor
    cosines: Tensor
    mixing: Tensor

    def __init__(self, domain: Domain, quality: int, bpda: bool) -> None:
        super().__init__()
        self.low, self.width, self.bpda = domain.low, domain.high - domain.low, bpda
        self.channels, self.height, self.length = domain.shape
        grey = torch.tensor(GREY, dtype=torch.float32)
        colour = torch.full((SIDE, SIDE), 99.0)
        colour[:4, :4] = torch.tensor(COLOUR, dtype=torch.float32)
        tables = torch.stack([grey, colour, colour])[: self.channels]
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        steps = ((tables * scale + 50) / 100).floor().clamp(1, 255)
        self.register_buffer("steps", steps[:, None, None], persistent=False)
        self.register_buffer("cosines", _cosines(), persistent=False)
        self.register_buffer("mixing", torch.tensor(TO_YCC), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self._rounded((x.float() - self.low) / self.width * 255)
        if self.channels == 3:
            pixels = torch.einsum("ij,bjhw->bihw", self.mixing, pixels)
            pixels = self._rounded(pixels)
            pixels = torch.cat([pixels[:, :1] - 128, pixels[:, 1:]], 1)
        else:
            pixels = pixels - 128
        back = self._compressed(pixels)
        if self.channels == 3:
            back = torch.cat([back[:, :1] + 128, back[:, 1:]], 1)
            back = torch.einsum("ij,bjhw->bihw", self.mixing.inverse(), back)
        else:
            back = back + 128
        return (self.low + self.width * self._rounded(back).clamp(0, 255) / 255).to(x.dtype)

    def _compressed(self, pixels: Tensor) -> Tensor:
        """Return (B, C, H, W) after each block's frequencies have been rounded to their steps."""
        lacking = [-side % SIDE for side in (self.length, self.height)]
        wide = pad(pixels, [0, lacking[0], 0, lacking[1]], mode="replicate")
        blocks = wide.unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE)  # (B, C, rows, columns, 8, 8)
        frequencies = self.cosines @ blocks @ self.cosines.T / self.steps
        blocks = self.cosines.T @ (self._rounded(frequencies) * self.steps) @ self.cosines
        whole = blocks.permute(0, 1, 2, 4, 3, 5).reshape(wide.shape)
        return whole[..., : self.height, : self.length]

    def _rounded(self, values: Tensor) -> Tensor:
        return straight_through(values.round(), values, self.bpda)


def _cosines() -> Tensor:
    """Return the orthonormal cosine transform of 8 numbers, (8, 8)."""
    places = torch.arange(SIDE, dtype=torch.float64)
    waves = torch.cos(math.pi / SIDE * (places[None] + 0.5) * places[:, None]) * math.sqrt(2 / SIDE)
    waves[0] /= math.sqrt(2)
    return waves.float()
