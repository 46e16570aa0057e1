"""Which rows a poisoner takes, and the checks that every poison begins with."""

import torch
from torch import Tensor

from trustml.contracts import Random, Split
from trustml.errors import BadInput, BadOption, NotApplicable


def taken(split: Split, allowed: Tensor, rate: float, random: Random, of: int) -> Tensor:
    """Return the rows (M,) that are poisoned: round(rate · of) of the allowed ones, by lot.

    Args:
        split: the whole.
        allowed: (B,) bool, those that can be taken.
        rate: share of `of`, in [0, 1].
        random: draws a number for each sample; the lowest are taken.
        of: what the rate is a share of.

    Raises:
        BadInput: fewer samples can be taken than the rate asks for.
    """
    wanted, there = round(rate * of), int(allowed.sum())
    if wanted > there:
        raise BadInput(
            f"rate={rate:g} asks for {wanted} of {of} samples, and {there} can be poisoned: "
            f"give a rate of {there / max(of, 1):.3g} or less"
        )
    lot = random.uniform((1,), "poisoned")[:, 0].to(split.x.device)
    order = torch.where(allowed.to(lot.device), lot, torch.inf).argsort(stable=True)
    return order[:wanted].sort().values


def check_rate(poison: str, rate: float, name: str = "rate") -> None:
    """Refuse a share outside [0, 1].

    Raises:
        BadOption: it is outside, or NaN.
    """
    if not 0 <= rate <= 1:
        raise BadOption(f"{poison}: {name}={rate:g} is not allowed: it is a share from 0 to 1")


def check_class(poison: str, name: str, wanted: int, split: Split) -> None:
    """Refuse a class that the data do not have.

    Raises:
        BadOption: it is out of range.
    """
    if not 0 <= wanted < split.classes:
        raise BadOption(
            f"{poison}: {name}={wanted} is not allowed: classes are numbered 0 to "
            f"{split.classes - 1}"
        )


def image_sides(poison: str, split: Split) -> tuple[int, int]:
    """Return the height and width of the split's images.

    Raises:
        NotApplicable: its inputs are no images.
    """
    shape = split.x.shape[1:]
    if len(shape) != 3:
        raise NotApplicable(
            f"{poison} needs images (channels, height, width), and these inputs have the shape "
            f"{tuple(shape)}: label_flip and drift take any shape"
        )
    return int(shape[1]), int(shape[2])
