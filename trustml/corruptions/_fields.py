"""What corruptions share: blurs, zooms, warps and random landscapes, one a picture."""

import torch
from torch import Tensor
from torch.nn import functional

from trustml.contracts import Random

SIDE = 32  # of the pictures that the tables of the original are for


def scale(x: Tensor) -> float:
    """Return how many times larger the picture is than those that the tables are for."""
    return min(x.shape[2:]) / SIDE


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Return x (B, C, H, W) filtered by one kernel (h, w) of odd sides; edges are mirrored."""
    height, width = kernel.shape
    pads = (width // 2, width // 2, height // 2, height // 2)
    flat = padded(x.flatten(0, 1)[:, None], pads)
    return functional.conv2d(flat, kernel.to(x)[None, None]).view_as(x)


def padded(flat: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Return (N, 1, H, W) mirrored at its edges, by its edges' values where it is too small."""
    room = min(flat.shape[2] - pads[2], flat.shape[3] - pads[0])
    return functional.pad(flat, pads, mode="reflect" if room > 0 else "replicate")


def gaussian(sigma: float, reach: int | None = None) -> Tensor:
    """Return a normal bell's weights (2 · reach + 1,); by default to 4 standard deviations."""
    reach = max(1, round(4 * sigma)) if reach is None else reach
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    # The weights of a bell narrower than a pixel are 1 in the middle.
    weight = torch.exp(-place.square() / (2 * max(sigma, 1e-3) ** 2))
    return weight / weight.sum()


def smoothed(x: Tensor, sigma: float, reach: int | None = None) -> Tensor:
    """Return x (B, C, H, W) blurred by a normal bell."""
    line = gaussian(sigma, reach)
    return filtered(filtered(x, line[None]), line[:, None])


def places(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column (1, H, W) of each pixel, as numbers."""
    height, width = x.shape[2:]
    rows = torch.arange(height, dtype=torch.float32, device=x.device)
    columns = torch.arange(width, dtype=torch.float32, device=x.device)
    down, across = torch.meshgrid(rows, columns, indexing="ij")
    return down[None], across[None]


def sampled(x: Tensor, down: Tensor, across: Tensor, edges: str = "border") -> Tensor:
    """Return x (B, C, H, W) at rows and columns (B, H, W), bilinear.

    Args:
        x: pictures.
        down: rows.
        across: columns.
        edges: "border", "reflection" about the outer pixels' middle, or "zeros".
    """
    height, width = x.shape[2:]
    where = torch.stack([2 * across / (width - 1) - 1, 2 * down / (height - 1) - 1], dim=3)
    where = where.expand(len(x), *where.shape[1:]).to(x.dtype)
    return functional.grid_sample(x, where, padding_mode=edges, align_corners=True)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """Return x as seen that many times nearer, about its middle."""
    height, width = x.shape[2:]
    down, across = places(x)
    middle = ((height - 1) / 2, (width - 1) / 2)
    return sampled(
        x, middle[0] + (down - middle[0]) / factor, middle[1] + (across - middle[1]) / factor
    )


def dragged(x: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """Return x smeared one way, as a moved camera does, in the direction of degrees (B,).

    Half a normal bell of `sigma` pixels, cut where it is 2 · radius + 1 long.
    """
    turn = (degrees * (torch.pi / 180)).to(x)[:, None, None]
    down, across = places(x)
    weight = torch.exp(-torch.arange(2 * round(radius) + 1).double().square() / (2 * sigma**2))
    weight = (weight / weight.sum())[weight > 1e-6 * weight[0]]
    result = torch.zeros_like(x)
    for step, share in enumerate(weight.tolist()):
        result += share * sampled(x, down - step * turn.sin(), across - step * turn.cos())
    return result


def landscape(x: Tensor, fall: float, random: Random, purpose: str) -> Tensor:
    """Return a random landscape (B, 1, H, W) from 0 to 1 for each picture of x.

    Octave after octave, each half as wide as the one before and 1/fall² as high: the spectrum of
    the diamond-square plasma of the original.
    """
    height, width = x.shape[2:]
    side, octave = 1, 0
    total = torch.zeros(len(x), 1, height, width, device=x.device, dtype=x.dtype)
    while side < 2 * max(height, width):
        lot = random.uniform((1, side + 1, side + 1), purpose, octave).to(x) - 0.5
        wide = functional.interpolate(
            lot, size=(height, width), mode="bilinear", align_corners=True
        )
        total += wide * fall ** (-2 * octave)
        side, octave = 2 * side, octave + 1
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    return (total - low) / (high - low).clamp_min(1e-12)


def grey(x: Tensor) -> Tensor:
    """Return the brightness (B, 1, H, W) of pictures (ITU-R BT.601)."""
    if x.shape[1] == 1:
        return x
    weight = x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weight).sum(1, keepdim=True)
