"""Brightness: more light than there was."""

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.registry import corruption

RAISED = (0.05, 0.10, 0.15, 0.20, 0.30)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def brightness(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x with its value (the V of HSV) raised; hue and saturation stay.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: not used: nothing here is random.
    """
    value = x.amax(1, keepdim=True)
    raised = (value + RAISED[severity - 1]).clamp(max=1)
    # Black has no hue: it becomes grey.
    return torch.where(value > 0, x * (raised / value.clamp_min(1e-12)), raised)
