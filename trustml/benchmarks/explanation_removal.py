"""Does an explanation name what matters? Deletion, insertion, and ROAD."""

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
    worths,
)
from trustml.benchmarks.explanation_scores import Measured, mean_of
from trustml.benchmarks.imputation import impute
from trustml.contracts import Classifier
from trustml.errors import BadOption, NotApplicable

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
    rank = ranks(explained, baseline, seed)
    count = rank.shape[1]
    gone = torch.linspace(0, count, min(steps, count) + 1).round().to(rank)
    x = explained.x

    def change(rows: slice) -> Tensor:
        chosen = spread(rank[rows][:, None] < gone[:, None], x)
        here, there = (baseline, x) if not back else (x, baseline)
        return torch.where(chosen, here[rows][:, None], there[rows][:, None])

    curve = worths(model, x, explained.target, len(gone), change, output)
    return curve, gone.to(curve) / count


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
    for least_first in (True, False):
        rank = ranks(explained, baseline, seed, least_first=least_first)
        gone = torch.tensor([round(share * rank.shape[1]) for share in shares]).to(rank)
        values = []
        for rows in chunks(x, 8 * len(shares)):
            holes = (rank[rows][:, None] < gone[:, None]).view(-1, 1, *x.shape[2:])
            filled = impute(x[rows].repeat_interleave(len(shares), 0), holes, noise, seed)
            wanted = explained.target[rows].repeat_interleave(len(shares))
            values.append(worth(model, filled, wanted, output).view(-1, len(shares)))
        kept.append(torch.cat(values).mean(1))
    return mean_of(kept[0] - kept[1], "higher")
