"""Maximum pooling written with ReLUs, so that a rule for ReLUs is a rule for it.

captum's own rule for pooling loses the part of a place whose input and baseline are equal: on a
trained LeNet against the mean input its sums miss by more than a logit.
"""

import torch
from torch import Tensor, nn


def pooled_by_relus(network: nn.Module) -> nn.Module:
    """Return the network with each plain nn.MaxPool2d replaced by the same maximum over ReLUs."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.MaxPool2d and _is_plain(child):
                setattr(parent, name, _Maximum(child))
    return network


class _Maximum(nn.Module):
    """The maximum of k by k places, pair after pair: max(a, b) = b + relu(a - b)."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.kernel, self.stride = _pair(pool.kernel_size), _pair(pool.stride)
        count = self.kernel[0] * self.kernel[1]
        self.bends = nn.ModuleList(nn.ReLU() for _ in range(count - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima (B, C, H', W')."""
        sizes = [
            (side - wide) // step + 1
            for side, wide, step in zip(x.shape[2:], self.kernel, self.stride, strict=True)
        ]
        values = [
            x[:, :, row :: self.stride[0], column :: self.stride[1]][:, :, : sizes[0], : sizes[1]]
            for row in range(self.kernel[0])
            for column in range(self.kernel[1])
        ]
        # Neighbours meet first, as in a tournament: no place plays more often than it must.
        for bend in self.bends:
            first, second, *values = values
            values.append(second + bend(first - second))
        return torch.clone(values[0])


def _is_plain(pool: nn.MaxPool2d) -> bool:
    nothing = _pair(pool.padding) == (0, 0) and _pair(pool.dilation) == (1, 1)
    return nothing and not pool.ceil_mode and not pool.return_indices


def _pair(sides: int | tuple[int, ...]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else (sides[0], sides[1])
