"""Usual budgets for data that the field has no habit for, scaled from data that it has one for."""

import math

from trustml.contracts import Norm

CIFAR = 3 * 32 * 32


def image_budgets(entries: int, width: float = 1.0) -> dict[Norm, float]:
    """Return CIFAR-10's budgets, scaled to images of `entries` values in a box `width` wide."""
    ratio = entries / CIFAR
    return {
        "linf": 8 / 255 * width,
        "l2": 0.5 * math.sqrt(ratio) * width,
        "l1": 12 * ratio * width,
        "l0": max(1.0, float(round(24 * ratio))),
    }


def column_budgets(columns: int) -> dict[Norm, float]:
    """Return budgets for a table of columns in [0, 1]: a tenth in each at most."""
    return {
        "linf": 0.1,
        "l2": 0.05 * math.sqrt(columns),
        "l1": 0.05 * columns,
        "l0": max(1.0, float(round(columns / 10))),
    }
