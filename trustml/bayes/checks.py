"""Checks of numbers and tensors, as the functions of this room share them: one line says it all."""

import math
from numbers import Real

import torch
from torch import Tensor

from trustml.errors import BadInput, BadOption, UsageError

Error = type[UsageError]
LARGEST = 1e100


def finite_number(value: object) -> bool:
    """Return whether the value is a plain finite number: no bool, complex, text or tensor."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def check_finite(error: Error = BadOption, /, **values: object) -> None:
    """Refuse what is not a finite number.

    Raises:
        UsageError: of the given kind, for the first that is not.
    """
    for name, value in values.items():
        if not finite_number(value):
            raise error(f"{name}={value!r} is not allowed: it must be a finite number")


def check_positive(error: Error = BadOption, /, **values: object) -> None:
    """Refuse what is not a finite number above 0.

    Raises:
        UsageError: of the given kind, for the first that is not.
    """
    for name, value in values.items():
        if not (finite_number(value) and value > 0):  # type: ignore[operator]
            raise error(f"{name}={value!r} is not allowed: it must be a finite number above 0")


def check_whole(least: int, /, **values: object) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        BadOption: the first that is not.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadOption(
                f"{name}={value!r} is not allowed: it must be a whole number, {least} or more"
            )


def check_real(**tensors: object) -> None:
    """Refuse what is not a tensor of real numbers.

    Raises:
        BadInput: the first that is not.
    """
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise BadInput(f"{name}: a {type(value).__name__} was given, and a tensor is needed")
        if value.is_complex():
            raise BadInput(f"{name}: complex numbers were given, and real ones are needed")


def check_finite_entries(**tensors: object) -> None:
    """Refuse what is not a tensor of finite real numbers whose squares are finite too.

    Raises:
        BadInput: the first that is not.
    """
    check_real(**tensors)
    for name, value in tensors.items():
        assert isinstance(value, Tensor)
        if not bool(torch.isfinite(value).all()):
            raise BadInput(f"{name}: NaN or an infinity among the values; remove them")
        if value.dtype == torch.float64 and bool((value.abs() > LARGEST).any()):
            raise BadInput(
                f"{name}: values beyond {LARGEST:g}, whose squares overflow; rescale them"
            )
