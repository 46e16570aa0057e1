"""What a corruption is given and gives back, checked."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from trustml.contracts import Corruption
from trustml.errors import BadInput, BadOption, MethodFailed, NotApplicable

C = TypeVar("C", bound=Corruption)
SEVERITIES = (1, 2, 3, 4, 5)
LEAST = 4  # pixels a side: with fewer, shapes and neighbourhoods mean nothing


def checked(function: C) -> C:
    """Return the corruption with a check of what it is given before it, and the box after it."""
    name = getattr(function, "__name__", "the corruption")

    @wraps(function)
    def guarded(x: Any, severity: int, /, **options: Any) -> Tensor:
        if severity not in SEVERITIES:
            raise BadOption(f"{name}: severity {severity} is none of 1, 2, 3, 4, 5")
        check_pictures(name, x)
        if not bool(((x >= 0) & (x <= 1)).all()):
            raise BadInput(f"{name}: pictures must lie in [0, 1]; scale them first")
        if not len(x):
            return x.clone()
        changed = function(x, severity, **options)
        if changed.shape != x.shape or not bool(changed.isfinite().all()):
            raise MethodFailed(f"{name} did not return finite pictures like those given")
        return changed.clamp(0, 1).to(x.dtype)

    return cast(C, guarded)


def check_pictures(name: str, x: Tensor) -> None:
    """Check that inputs are pictures that can be corrupted.

    Raises:
        NotApplicable: they are no images of one or three channels, or too small.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() != 4:
        shape = tuple(x.shape[1:]) if isinstance(x, Tensor) else type(x).__name__
        raise NotApplicable(f"{name} corrupts pictures (channels, height, width), not {shape}")
    if x.shape[1] not in (1, 3):
        raise NotApplicable(f"{name} knows grey and RGB pictures, not {x.shape[1]} channels")
    if min(x.shape[2:]) < LEAST:
        raise NotApplicable(
            f"{name}: pictures of {x.shape[2]}×{x.shape[3]} are too small to tell a corruption "
            f"from another picture; {LEAST}×{LEAST} is the least"
        )


def corrupted(
    function: Callable[..., Tensor], x: Tensor, box: tuple[float, float], severity: int, given: Any
) -> Tensor:
    """Return inputs in the box, corrupted; `given` are the options, random numbers among them."""
    low, high = box
    shown = ((x.double() - low) / (high - low)).clamp(0, 1).to(torch.float32)
    changed = low + (high - low) * function(shown, severity, **given).double()
    return changed.to(x.dtype).clamp(*(float(value) for value in x.new_tensor(box)))
