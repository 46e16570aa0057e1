"""A plugin file whose truth is known by hand: points, a model that reads them, attacks.

The model answers the largest of the first three coordinates. Test sample i has a lead of
0.02 · (i + ½), the last coordinate says whether i is odd, and the last two samples are mislabelled.
So a budget of Linf epsilon fools exactly the samples whose lead is below 2 · epsilon.
"""

import os

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Dataset, Split
from trustml.registry import attack, data, model

COUNT, WRONG = 20, 2


def points(first: int) -> Split:
    """Return 22 points (4,) with the ids from `first` on."""
    rows = torch.arange(COUNT + WRONG)
    y = rows % 3
    x = torch.full((len(rows), 4), 0.4)
    x[rows, y] += 0.02 * (rows + 0.5)
    x[:, 3] = (rows % 2).float()
    y[COUNT:] = (y[COUNT:] + 1) % 3
    return Split(x, y, rows + first, 3)


@data(source="made by hand")
def toy(*, folder: str | None) -> Dataset:
    """Return the points three times over."""
    parts = (points(1000), points(2000), points(int(os.environ.get("TOY_FIRST", 3000))))
    return Dataset("toy", *parts, ("a", "b", "c"), {"linf": 0.1, "l0": 1.0})


class _Largest(nn.Module):
    def __init__(self, broken: str) -> None:
        super().__init__()
        self.scale, self.broken = nn.Parameter(torch.tensor(10.0)), broken

    def forward(self, x: Tensor) -> Tensor:
        if self.broken == "raises":
            raise ValueError("no answer\nat all")
        if self.broken == "narrow":
            return self.scale * x[:, :2]
        return self.scale * x[:, :3] * (torch.nan if self.broken == "nan" else 1)

    def features(self, x: Tensor) -> Tensor:
        return x

    def fit(self, *given: object) -> list[object]:
        return []


@model(source="made by hand")
def largest(domain: object, /, *, broken: str = "") -> nn.Module:
    """Answer the largest of the first three coordinates."""
    return _Largest(broken)


def _aimed(x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    rows, moved = torch.arange(len(x)), x.clone()
    moved[rows, y] -= epsilon
    moved[rows, (y + 1) % 3] += epsilon
    return moved


@attack(source="made by hand", needs=Access.GRADIENTS, norms=("linf",))
def aim(model, x, y, threat, /, *, random, only: str = "all", shape: tuple[int, ...] = (1, 2)):
    """Return the best that there is, for all, odd or even samples."""
    model(x)
    chosen = {"all": x[:, 3] >= 0, "odd": x[:, 3] == 1, "even": x[:, 3] == 0}[only]
    return torch.where(chosen[:, None], _aimed(x, y, threat.epsilon), x)


@attack(source="made by hand", needs=Access.LABELS, norms=("linf", "l0"), targeted=False)
def still(model, x, y, threat, /, *, random):
    """Return x: weaker than noise."""
    return x


@attack(source="made by hand", needs=Access.LABELS, norms=("linf",))
def fails(model, x, y, threat, /, *, random):
    """Raise."""
    raise KeyError("the\nplugin's own fault")


@attack(source="made by hand", needs=Access.LABELS, norms=("linf",))
def unfit(model, x, y, threat, /, *, random):
    """Say that it does not apply."""
    from trustml.errors import NotApplicable

    raise NotApplicable("it needs a tree")


@attack(source="made by hand", needs=Access.LABELS, norms=("linf",))
def slow(model, x, y, threat, /, *, random, seconds: float = 0.2):
    """Take its time over each batch."""
    import time

    time.sleep(seconds)
    return _aimed(x, y, threat.epsilon)
