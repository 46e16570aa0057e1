"""How many bits an input takes by itself, without a model."""

import math
import zlib

import torch
from torch import Tensor
from torch.special import entr

LEVEL = 6  # that of PNG files, unless asked otherwise


def deflated_bits(unit: Tensor) -> Tensor:
    """Return the length (B,) in bits of each 8-bit input, deflated as PNG files are.

    The shortest of three: entries as they are, less their left neighbour, less their upper one.

    Args:
        unit: inputs (B, *S) in [0, 1].
    """
    plain = (unit * 255).round().to(torch.int16)
    forms = [plain]
    for axis in range(max(unit.ndim - 2, 1), unit.ndim):
        forms.append(plain - _neighbour(plain, axis))
    lengths = [[len(zlib.compress(row, LEVEL)) for row in _bytes(form)] for form in forms]
    return 8.0 * torch.tensor(lengths, dtype=torch.float64, device=unit.device).amin(0)


def bernoulli_bits(unit: Tensor) -> Tensor:
    """Return the entropy (B,) in bits of entries that are shares of white."""
    share = unit.double().clamp(0, 1).flatten(1)
    return (entr(share) + entr(1 - share)).sum(1) / math.log(2)


def _neighbour(plain: Tensor, axis: int) -> Tensor:
    """Return the entry before each along the axis, 0 at the edge."""
    shifted = torch.zeros_like(plain)
    shifted.narrow(axis, 1, plain.shape[axis] - 1).copy_(
        plain.narrow(axis, 0, plain.shape[axis] - 1)
    )
    return shifted


def _bytes(form: Tensor) -> list[bytes]:
    rows = (form % 256).to(torch.uint8).flatten(1).cpu().numpy()
    return [row.tobytes() for row in rows]
