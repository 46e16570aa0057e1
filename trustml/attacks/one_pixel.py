"""One pixel: differential evolution over the places and values of a few entries."""

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._judge import Judge, check_counts, reach
from trustml.attacks._losses import LossName
from trustml.attacks._windows import plane_of
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack

# How far a child goes along the difference of two others.
_FACTOR = 0.5


@attack(
    source="Su, Vargas & Sakurai 2019, arXiv:1710.08864; Storn & Price 1997",
    needs=Access.PROBABILITIES,
    norms=("l0",),
)
def one_pixel(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    population: int = 20,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss that evolution found.

    Each member of a population is a list of as many entries as may change: channel, row, column and
    value, as numbers in [0, 1). A child takes its parent's place where its loss is higher.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        population: members of a generation.
        loss: what is climbed.

    Raises:
        BadOption: no queries, or fewer than 4 members.
        MethodFailed: the model answers NaN.
    """
    check_counts("one_pixel", queries=queries)
    if population < 4:
        raise BadOption(f"one_pixel: population={population} must be 4 or more: a child has three")
    with frozen(model), torch.no_grad():
        judge, step = Judge(model, x, y, threat, queries, loss), 0
        rows, count = torch.arange(len(x), device=x.device), reach(x, threat).long()
        genes = random.uniform((max(int(count.max()), 1), population, 4), "genes")
        held = x.new_full((population, len(x)), -torch.inf)
        # Entries come first and members next, so that who shares the batch changes no number.
        while len(left := judge.going(rows, population)):
            rows, genes, held = rows[left], genes[left], held[:, left]
            children = _children(genes, random.at(rows), step) if step else genes
            points = _points(x[rows], children, count[rows], threat)
            losses = judge(points, rows)
            better = losses > held
            genes = torch.where(better.T[:, None, :, None], children, genes)
            held = torch.where(better, losses, held)
            step += 1
    return threat.project(judge.best, x)


def _children(genes: Tensor, random: Random, step: int) -> Tensor:
    """Return one member plus the difference of two others, anew where that leaves [0, 1)."""
    entries, members = genes.shape[1:3]
    # Three turns of a ring: for each member three others, all different.
    turns = random.uniform((members - 1,), "others", step).argsort(dim=1, stable=True)[:, :3] + 1
    places = (torch.arange(members, device=genes.device) + turns[:, :, None]) % members
    one, two, three = (
        genes.gather(2, place[:, None, :, None].expand_as(genes)) for place in places.unbind(1)
    )
    children = one + _FACTOR * (two - three)
    fresh = random.uniform((entries, members, 4), "fresh", step)
    return torch.where((children < 0) | (children >= 1), fresh, children)


def _points(x: Tensor, genes: Tensor, count: Tensor, threat: Threat) -> Tensor:
    """Return the points (P · B, *S) that lists of entries stand for."""
    plane, members = plane_of(x.shape[1:]), genes.shape[2]
    sides = torch.tensor([plane.channels, plane.rows, plane.columns], device=x.device)
    channel, row, column = torch.minimum((genes[..., :3] * sides).long(), sides - 1).unbind(-1)
    entry = (channel * plane.rows + row) * plane.columns + column
    # Lists are as long as the longest; what a sample may not change is written past its end.
    over = torch.arange(genes.shape[1], device=x.device) >= count[:, None]
    entry = entry.masked_fill(over[:, :, None], x[0].numel()).permute(2, 0, 1)
    value = (threat.low + genes[..., 3] * (threat.high - threat.low)).clamp(max=threat.high)
    padded = torch.nn.functional.pad(x.flatten(1), (0, 1)).repeat(members, 1, 1)
    points = padded.scatter(2, entry, value.permute(2, 0, 1).to(x.dtype))[..., :-1]
    return points.reshape(-1, *x.shape[1:])
