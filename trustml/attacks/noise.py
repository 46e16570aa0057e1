"""Random noise of the same budget: what any attack must beat."""

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.attacks._ascent import in_ball
from trustml.beyond import RULERS, drawn
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import interval
from trustml.registry import attack
from trustml.threats import check_readable


@attack(
    source="Uniform in the ball (L1: Barthe et al. 2005, doi:10.1214/009117904000000874)",
    needs=Access.LABELS,
    norms=(
        "linf",
        "l2",
        "l1",
        "l0",
        "patch",
        "spatial",
        "colour",
        "structure",
        "wasserstein",
        "flow",
    ),
)
def noise(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    draws: int = 10,
) -> Tensor:
    """Return random points (B, *S) of each ball: the first that wins, else the last drawn.

    Uniform in the volume of the Linf, L2 and L1 ball, then clipped to the box; for L0 uniform
    values in epsilon entries chosen at random. Beyond the norms: a patch of random colours at a
    random place, a random turn and shift, colours or images towards random ones as far as allowed.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        draws: points tried for each sample.

    Raises:
        BadOption: no draws.
    """
    if draws < 1:
        raise BadOption(f"noise: draws={draws} must be 1 or more")
    with frozen(model), torch.no_grad():
        answers = model(x)
        check_readable(answers, y)
        result, rows = x, (~threat.reached(answers, y)).nonzero()[:, 0]
        for draw in range(draws):
            if not len(rows):
                break
            part = threat.at(rows)
            tried = _noisy(x[rows], part, random.at(rows), draw)
            result = result.index_copy(0, rows, tried)
            rows = rows[~part.reached(at(model, rows)(tried), y[rows])]
    return result


def _noisy(x: Tensor, threat: Threat, random: Random, draw: int) -> Tensor:
    epsilon = threat.budget(x)
    if threat.norm in RULERS:
        return drawn(threat, x, random, draw)
    if threat.norm != "l0":
        moved = in_ball(x, threat.norm, epsilon, random, draw).add_(x)
        if threat.norm == "linf":
            return moved.clamp_(*interval(x, epsilon, threat.low, threat.high))
        return threat.project(moved.clamp_(threat.low, threat.high), x)
    # The entries with the lowest random numbers are a uniform choice of that many.
    shape = tuple(x.shape[1:])
    rank = (
        random.uniform(shape, "entry", draw).flatten(1).argsort(dim=1, stable=True).argsort(dim=1)
    )
    value = threat.low + random.uniform(shape, "value", draw) * (threat.high - threat.low)
    return torch.where(rank.view_as(x) < epsilon, value.to(x.dtype).clamp(max=threat.high), x)
