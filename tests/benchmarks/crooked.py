"""A plugin file of models and data that are not what they should be, each in one way."""

import torch
from torch import Tensor, nn

from trustml.contracts import Dataset, Split
from trustml.registry import data, model


class _Crooked(nn.Module):
    """The largest of three coordinates, told wrongly."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.scale, self.how, self.calls = nn.Parameter(torch.tensor(10.0)), how, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits = self.scale * x[:, :3]
        # Off the clean inputs, whose first three coordinates are 0.4 but for one.
        moved = ((x[:, :3] - 0.4).abs() > 1e-6).sum(1, keepdim=True) > 1
        return {
            "probabilities": lambda: logits.softmax(1),
            "nan": lambda: logits * torch.nan,
            "nan where attacked": lambda: torch.where(moved, torch.nan, logits),
            "infinite": lambda: torch.where(moved, torch.inf, logits),
            "one column": lambda: logits[:, :1],
            "two columns": lambda: logits[:, :2],
            "a row short": lambda: logits[:-1],
            "one row": lambda: logits.mean(0, keepdim=True),
            "flat": lambda: logits.flatten(),
            "a tuple": lambda: (logits, logits),
            "whole numbers": lambda: (100 * logits).long(),
            "noise": lambda: logits + torch.randn_like(logits),
            "every other call": lambda: logits * (1 if self.calls % 2 else -1),
            "detached": lambda: logits.detach(),
        }[self.how]()

    def features(self, x: Tensor) -> Tensor:
        return x

    def fit(self, *given: object) -> list[object]:
        return []


@model(source="made by hand")
def crooked(domain: object, /, *, how: str = "") -> nn.Module:
    """Answer in a way that no classifier should."""
    return _Crooked(how.replace("_", " "))


def _points(first: int = 0) -> Split:
    """Return 20 points (4,), the largest of whose first three coordinates is the label.

    Number i leads by 0.02 · (i + ½).
    """
    rows = torch.arange(20)
    x, y = torch.full((len(rows), 4), 0.4), rows % 3
    x[rows, y] += 0.02 * (rows + 0.5)
    return Split(x, y, rows + first, 3)


@data(source="made by hand")
def spoiled(*, folder: str | None, how: str = "nothing") -> Dataset:
    """Return points with one thing wrong."""
    good = _points()
    x, y = {
        "nothing": (good.x, good.y),
        "whole_numbers": (good.x.mul(255).byte(), good.y),
        "one_hot": (good.x, torch.eye(3)[good.y]),
        "nan": (good.x * torch.nan, good.y),
        "outside": (good.x * 255, good.y),
        "no_such_class": (good.x, good.y + 3),
        "negative": (good.x, good.y - 1),
        "floats": (good.x, good.y.float()),
        "too_few_labels": (good.x, good.y[:-1]),
    }[how]
    parts = (_points(1000), _points(2000), Split(x, y, good.ids, 3))
    return Dataset("spoiled", *parts, ("a", "b", "c"), {"linf": 0.1, "l0": 1.0})
