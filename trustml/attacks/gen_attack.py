"""GenAttack: a population of points that mate by their losses and mutate."""

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._judge import Judge, check_counts, reach
from trustml.attacks._losses import LossName
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

# Differences of losses that make e times as many children; what mutations fall by, and to.
_TEMPERATURE, _FALL = 0.3, 0.9
_RATE, _LEAST_RATE, _RANGE, _LEAST_RANGE = 0.5, 0.05, 0.4, 0.15


@attack(
    source="Alzantot et al. 2019, arXiv:1805.11090",
    needs=Access.PROBABILITIES,
    norms=("linf",),
)
def gen_attack(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    population: int = 6,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss that a genetic search met.

    The best of a generation lives on; the others are children, each entry of either parent, some of
    them moved. Where no generation gets better, fewer entries are moved, and less far.

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
        BadOption: no queries, or fewer than 2 members.
        MethodFailed: the model answers NaN.
    """
    check_counts("gen_attack", queries=queries)
    if population < 2:
        raise BadOption(f"gen_attack: population={population} must be 2 or more")
    shape = (population, *x.shape[1:])
    with frozen(model), torch.no_grad():
        judge, step = Judge(model, x, y, threat, queries, loss), 0
        rows, far = torch.arange(len(x), device=x.device), like(reach(x, threat), x)
        moves = far * (random.uniform(shape, "start").transpose(0, 1).to(x.dtype) * 2 - 1)
        losses, stuck = x.new_empty(0), x.new_zeros(len(x))
        while len(left := judge.going(rows, population - bool(step))):
            rows, moves, stuck = rows[left], moves[:, left], stuck[left]
            if not step:
                losses = judge(_inside(judge, x, moves, rows), rows)
            else:
                losses = losses[:, left]
                best = losses.argmax(0)[None]
                elite = moves.gather(0, best.view(1, -1, *[1] * (x.dim() - 1)).expand_as(moves[:1]))
                children = _children(moves, losses, random.at(rows), step)
                children = children + far[rows] * _mutation(children, stuck, random.at(rows), step)
                known, new = losses.gather(0, best), judge(_inside(judge, x, children, rows), rows)
                stuck = torch.where(new.amax(0) > known[0], stuck, stuck + 1)
                moves, losses = torch.cat([elite, children]), torch.cat([known, new])
            step += 1
    return threat.project(judge.best, x)


def _inside(judge: Judge, x: Tensor, moves: Tensor, rows: Tensor) -> Tensor:
    """Return the points (P · B', *S) in the ball, and make the moves end there."""
    points = judge.pulled((x[rows] + moves).flatten(0, 1), rows)
    moves.copy_(points.view_as(moves) - x[rows])
    return points


def _children(moves: Tensor, losses: Tensor, random: Random, step: int) -> Tensor:
    """Return children (P − 1, B, *S): each entry is one of either parent's, the better's rather."""
    count, shape = len(moves) - 1, moves.shape[2:]
    # One after the other: the same in every batch.
    weight = ((losses - losses.amax(0)) / _TEMPERATURE).double().exp()
    heap = torch.stack([weight[: last + 1].sum(0) for last in range(len(weight))])
    draw = random.uniform((2, count), "parents", step).permute(1, 2, 0) * heap[-1]
    place = (draw[:, :, None] >= heap).sum(2).clamp(max=len(heap) - 1)
    wide = [1] * len(shape)
    one, other = (moves.gather(0, p.view(*p.shape, *wide).expand(*p.shape, *shape)) for p in place)
    first, second = (weight.gather(0, p) for p in place)
    share = (first / (first + second)).to(moves.dtype)
    mask = random.uniform((count, *shape), "crossing", step).transpose(0, 1)
    return torch.where(mask < share.view(*share.shape, *wide), one, other)


def _mutation(children: Tensor, stuck: Tensor, random: Random, step: int) -> Tensor:
    """Return moves of some entries, as shares of the radius."""
    shape = (len(children), *children.shape[2:])
    fall = _FALL**stuck
    rate, range_ = (_RATE * fall).clamp_min(_LEAST_RATE), (_RANGE * fall).clamp_min(_LEAST_RANGE)
    mask = random.uniform(shape, "mutants", step).transpose(0, 1) < like(rate, children[0])
    move = random.uniform(shape, "mutation", step).transpose(0, 1).to(children.dtype) * 2 - 1
    return torch.where(mask, move * like(range_, children[0]), 0.0)
