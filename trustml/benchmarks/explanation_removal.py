"""Does an explanation name what matters? Deletion, insertion, and ROAD."""

from collections.abc import Iterator

import torch
from torch import Tensor

from trustml.benchmarks.explained import (
    Explained,
    Output,
    chunks,
    generator,
    places,
    spread,
    worth,
)
from trustml.benchmarks.explanation_scores import Measured, mean_of
from trustml.benchmarks.imputation import impute
from trustml.contracts import Classifier
from trustml.errors import BadOption, NotApplicable

_CPU_IMAGES = 160
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def deletion(
    model: Classifier,
    explained: Explained,
    baseline: Tensor,
    *,
    steps: int = 28,
    output: Output = "probability",
    seed: int = 0,
) -> Measured:
    """Return the area (B,) under the class's probability as the most important places go first.

    Trapezoids over the shares really removed, both ends included (RISE: Petsiuk et al. 2018, §3.3).
    Least possible on a linear model's logit for the order of its parts w (x - x₀).

    Args:
        model: gives logits.
        explained: maps; places are ranked by their part, with its sign.
        baseline: what a removed entry is set to, (B, *S).
        steps: how many times something is removed.
        output: "probability", "logit", or "answer" (1 while the class is chosen).
        seed: of the order among equals.

    Raises:
        BadOption: no steps.
    """
    curve, shares = removal_curve(model, explained, baseline, steps=steps, output=output, seed=seed)
    return mean_of(torch.trapezoid(curve, shares, dim=1), "lower")


def insertion(
    model: Classifier,
    explained: Explained,
    baseline: Tensor,
    *,
    steps: int = 28,
    output: Output = "probability",
    seed: int = 0,
) -> Measured:
    """Return the area (B,) under the class's probability as the most important places come first.

    The options are those of `deletion`.

    Raises:
        BadOption: no steps.
    """
    curve, shares = removal_curve(
        model, explained, baseline, steps=steps, output=output, seed=seed, back=True
    )
    return mean_of(torch.trapezoid(curve, shares, dim=1), "higher")


def removal_curve(
    model: Classifier,
    explained: Explained,
    baseline: Tensor,
    *,
    steps: int,
    output: Output = "probability",
    seed: int = 0,
    back: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the curve (B, steps + 1) and the shares of places gone (or back, if `back`).

    Raises:
        BadOption: no steps.
    """
    if steps < 1:
        raise BadOption(f"steps={steps} is not allowed: it must be 1 or more")
    rank, x = ranks(explained, baseline, seed), explained.x
    count = rank.shape[1]
    gone = torch.linspace(0, count, min(steps, count) + 1).round().to(rank)
    here, there = (baseline, x) if not back else (x, baseline)
    fresh = _fresh(rank, gone, places((x != baseline).double()) > 0)
    row, step = fresh.nonzero(as_tuple=True)
    values = []
    for part in chunks(x, 1, len(row)):
        chosen = spread(rank[row[part]] < gone[step[part], None], x)
        changed = torch.where(chosen, here[row[part]], there[row[part]])
        values.append(worth(model, changed, explained.target[row[part]], output))
    # A step that changes nothing has the value of the one before.
    curve = torch.cat(values)[fresh.flatten().cumsum(0) - 1].view(fresh.shape)
    return curve, gone.to(curve) / count


def _fresh(rank: Tensor, gone: Tensor, differs: Tensor) -> Tensor:
    """Return which steps change the input (B, steps + 1), given the places that can (B, P).

    Most of a digit is black already: to set it to black is nothing to ask the model about.
    """
    counts = torch.zeros_like(rank).scatter_(1, rank, differs.long()).cumsum(1)
    upto = torch.cat([torch.zeros_like(counts[:, :1]), counts], 1)[:, gone]
    fresh = torch.ones_like(upto, dtype=torch.bool)
    fresh[:, 1:] = upto[:, 1:] != upto[:, :-1]
    return fresh


def ranks(
    explained: Explained, baseline: Tensor, seed: int, *, least_first: bool = False
) -> Tensor:
    """Return each place's rank (B, P), 0 for the one with the largest part; ties by lot.

    Without the lot, maps that are zero on a black margin would be ranked from the top left.
    """
    parts = places(explained.parts(baseline))
    lot = torch.randperm(parts.shape[1], generator=generator(seed)).to(parts.device)
    order = lot[parts[:, lot].argsort(dim=1, descending=not least_first, stable=True)]
    return order.argsort(1)


def road(
    model: Classifier,
    explained: Explained,
    baseline: Tensor,
    *,
    shares: tuple[float, ...] = SHARES,
    noise: float = 0.01,
    output: Output = "answer",
    seed: int = 0,
) -> Measured:
    """Return (B,): what stays without the least important places, less without the most important.

    The mean over shares that are imputed (ROAD: Rong et al. 2022, arXiv:2202.00449). Imputed places
    are noisy means of their neighbours, so that a mask's shape gives nothing away.

    Args:
        model: gives logits.
        explained: maps of images.
        baseline: with which influences are turned into parts, (B, *S).
        shares: of places that are imputed, each in (0, 1).
        noise: standard deviation of what is added.
        output: "answer" as in the paper, or "probability" or "logit".
        seed: of the noise and of the order among equals.

    Raises:
        NotApplicable: the inputs are no images.
        BadOption: a share outside (0, 1).
    """
    x = explained.x
    if x.dim() != 4:
        raise NotApplicable(f"ROAD fills in from neighbours, and {tuple(x.shape[1:])} has none")
    if not shares or not all(0 < share < 1 for share in shares):
        raise BadOption(f"road: shares={shares} must lie between 0 and 1")
    kept = []
    # One share at a time, because larger holes take more rounds to fill.
    for least_first in (True, False):
        rank = ranks(explained, baseline, seed, least_first=least_first)
        values = []
        for share in shares:
            holes = (rank < round(share * rank.shape[1])).view(-1, 1, *x.shape[2:])
            filled = torch.cat([impute(x[rows], holes[rows], noise, seed) for rows in _filled(x)])
            values.append(worth(model, filled, explained.target, output))
        kept.append(torch.stack(values, 1).mean(1))
    return mean_of(kept[0] - kept[1], "higher")


def _filled(x: Tensor) -> Iterator[slice]:
    """Yield rows that are filled together: on a processor, as many as stay near it."""
    if x.device.type != "cpu":
        yield from chunks(x, 8)
        return
    for start in range(0, len(x), _CPU_IMAGES):
        yield slice(start, start + _CPU_IMAGES)
