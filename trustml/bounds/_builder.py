"""The steps of a graph under construction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.bounds._bends import Bend, MaxPool
from trustml.bounds._operations import Affine, Sum
from trustml.errors import NotApplicable

Operation = Affine | Sum | Bend | MaxPool
# Rows of the stand-in input that shapes are worked out with.
ROWS = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor that depends on the input is computed: the number of a step."""

    number: int


class Builder:
    """The steps found so far; each is (operation, numbers of the steps it reads, output shape)."""

    def __init__(self, device: torch.device, shape: tuple[int, ...]) -> None:
        self.device = device
        self.steps: list[tuple[Operation | None, tuple[int, ...], tuple[int, ...]]] = [
            (None, (), tuple(shape))
        ]

    def shape(self, place: Place) -> tuple[int, ...]:
        """Return the shape of one sample there."""
        return self.steps[place.number][2]

    def add(self, operation: Operation, *read: Place) -> Place:
        """Append an operation."""
        shape = self.shape(read[0])
        if not isinstance(operation, Sum):
            example = torch.zeros(1, *shape, dtype=torch.float64, device=self.device)
            shape = tuple(operation.forward(example).shape[1:])
        self.steps.append((operation, tuple(place.number for place in read), shape))
        return Place(len(self.steps) - 1)

    def wide(self, tensor: Tensor) -> Tensor:
        """Return a float64 copy."""
        return tensor.detach().to(self.device).double()

    def like_one(self, constant: Tensor | float, place: Place) -> Tensor:
        """Return a constant in float64 that broadcasts over one sample there.

        Raises:
            NotApplicable: it does not.
        """
        value = self.wide(torch.as_tensor(constant))
        shape = self.shape(place)
        if value.dim() == len(shape) + 1 and len(value) == 1:
            value = value[0]
        if value.dim() > len(shape) or torch.broadcast_shapes(value.shape, shape) != shape:
            raise refused(f"arithmetic between shapes {tuple(value.shape)} and {shape}")
        return value


def refused(what: str) -> NotApplicable:
    """Return the error for something that has no rule."""
    return NotApplicable(f"no bounds are known for {what}")
