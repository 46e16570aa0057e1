"""The way of an input from the data to a model: range, mean and spread, colours, layout, shape."""

import math

import torch
from torch import Tensor, nn

from trustml.contracts import Domain, Interface
from trustml.errors import BadInput

Shape = tuple[int, ...]
# What a model's file says of its shape: None where it takes any size.
Declared = tuple[int | None, ...]


class Preparation(nn.Module):
    """Inputs (B, *S) of the data → what the model takes."""

    scale: Tensor
    shift: Tensor

    def __init__(self, domain: Domain, shape: Shape, last: bool, interface: Interface) -> None:
        super().__init__()
        self.shape, self.last = shape, last
        self.flips = interface.colours == "bgr"
        self.reshapes = (_moved(domain.shape) if last else domain.shape) != shape
        scale, shift = _affine(domain, interface)
        self.scales = bool((scale != 1).any() or (shift != 0).any())
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the model takes for x."""
        if self.scales:
            x = x * self.scale + self.shift
        if self.flips:
            x = x.flip(1)
        if self.last:
            x = x.movedim(1, -1)
        return x.reshape(-1, *self.shape) if self.reshapes else x


def preparation(
    domain: Domain | None, declared: Declared | None, interface: Interface
) -> tuple[Preparation, Domain]:
    """Return what makes a model's inputs of the data's, and the domain that the data have.

    Args:
        domain: of the data, where they are known; else inputs are in [0, 1], as the model has them.
        declared: the shape of one input, as the model's own file says it.
        interface: what the caller says.

    Raises:
        BadInput: nobody says the shape, or what is said does not go together.
    """
    wanted = _wanted(domain, declared, interface)
    if domain is None:
        face = (wanted[-1], *wanted[:-1]) if interface.layout == "last" else wanted
        domain = Domain(face, 0)  # its answers tell how many classes
    last = _is_last(domain.shape, wanted, interface)
    inner = _moved(domain.shape) if last else domain.shape
    if not _alike(inner, wanted):
        raise BadInput(
            f"the model takes inputs of shape {_text(wanted)}, and the data have "
            f"{_text(domain.shape)}: take other data, or say input_shape= or layout= if the model "
            f"takes these in another order"
        )
    return Preparation(domain, wanted, last, interface), domain


def _wanted(domain: Domain | None, declared: Declared | None, interface: Interface) -> Shape:
    """Return the shape of one input as the model takes it."""
    if interface.input_shape is not None:
        if not interface.input_shape or min(interface.input_shape) < 1:
            raise BadInput(f"input_shape={list(interface.input_shape)} must be sizes above 0")
        return interface.input_shape
    if declared is not None and None not in declared:
        return tuple(size for size in declared if size is not None)
    if domain is None:
        said = f"says only {_text(declared)}" if declared else "does not say"
        raise BadInput(
            f"the model {said} what shape its inputs have: say input_shape=[3,32,32], without the "
            f"batch, or name the data"
        )
    if declared is None:
        return _moved(domain.shape) if interface.layout == "last" else domain.shape
    if len(declared) == 1:
        return (math.prod(domain.shape),)
    last = interface.layout == "last" or (
        interface.layout == "auto" and not _fits(domain.shape, declared)
    )
    filled = _moved(domain.shape) if last and len(domain.shape) == 3 else domain.shape
    if not _fits(filled, declared):
        raise BadInput(
            f"the model takes inputs of shape {_text(declared)}, and the data have "
            f"{_text(domain.shape)}: say input_shape= and layout=, or take other data"
        )
    return filled


def _fits(shape: Shape, declared: Declared) -> bool:
    return len(shape) == len(declared) and all(
        wanted in (None, size) for size, wanted in zip(shape, declared, strict=True)
    )


def _is_last(shape: Shape, wanted: Shape, interface: Interface) -> bool:
    """Return whether the channels go last; where nobody says, the shapes tell."""
    if interface.layout == "last" and len(shape) != 3:
        raise BadInput(
            f"layout=last is for inputs (C, H, W), and these have the shape {_text(shape)}"
        )
    if interface.layout != "auto":
        return interface.layout == "last"
    return len(shape) == 3 and wanted != shape and wanted == _moved(shape)


def _moved(shape: Shape) -> Shape:
    return (*shape[1:], shape[0])


def _alike(shape: Shape, wanted: Shape) -> bool:
    """Return whether a reshape leads from the one to the other without mixing rows and columns."""
    if math.prod(shape) != math.prod(wanted):
        return False
    bare = [tuple(size for size in one if size != 1) for one in (shape, wanted)]
    return bare[0] == bare[1] or len(wanted) == 1 or len(shape) == 1


def _affine(domain: Domain, interface: Interface) -> tuple[Tensor, Tensor]:
    """Return factor and offset, each of a shape that broadcasts over inputs (B, *S)."""
    low, high = interface.input_range or (domain.low, domain.high)[:2]
    if interface.input_range is not None and not (len(interface.input_range) == 2 and low < high):
        raise BadInput(
            f"input_range={list(interface.input_range)} must be two numbers, the lower first, "
            f"such as [0,255]"
        )
    mean, spread = (_of_channels(domain.shape, interface, name) for name in ("mean", "std"))
    if not bool((spread > 0).all()):
        raise BadInput(f"std={list(interface.std or ())} must be above 0")
    if interface.colours == "bgr" and not (len(domain.shape) == 3 and domain.shape[0] == 3):
        raise BadInput(f"colours=bgr needs inputs (3, H, W), not {_text(domain.shape)}")
    factor = (high - low) / (domain.high - domain.low)
    offset = low - domain.low * factor
    return (factor / spread).float(), ((offset - mean) / spread).float()


def _of_channels(shape: Shape, interface: Interface, name: str) -> Tensor:
    values = getattr(interface, name) or ((0.0,) if name == "mean" else (1.0,))
    if len(values) not in (1, shape[0]):
        raise BadInput(f"{name}={list(values)} must be one number, or one for each of {shape[0]}")
    return torch.tensor(values, dtype=torch.float64).view(1, -1, *[1] * (len(shape) - 1))


def _text(shape: Declared | Shape | None) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape or ())})"
