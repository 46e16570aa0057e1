"""SignHunter: a vertex of the cube, whose signs are turned by halves, quarters and so on."""

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._judge import Judge, check_counts, reach
from trustml.attacks._losses import LossName
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.geometry import like
from trustml.registry import attack


@attack(
    source="Al-Dujaili & O'Reilly 2020, arXiv:1902.06894, algorithm 1",
    needs=Access.PROBABILITIES,
    norms=("linf", "l2"),
)
def sign_hunter(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss met while turning signs of a vertex.

    The turn of a block of entries is kept where the loss rises. After single entries it begins
    again with all at once.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: not used.
        queries: forward passes a sample at most.
        loss: what is climbed.

    Raises:
        BadOption: no queries.
        MethodFailed: the model answers NaN.
    """
    check_counts("sign_hunter", queries=queries)
    entries = x[0].numel()
    with frozen(model), torch.no_grad():
        judge = Judge(model, x, y, threat, queries, loss)
        # An L2 vertex has all entries moved alike.
        length = reach(x, threat) / (1.0 if threat.norm == "linf" else entries**0.5)
        sign, held = torch.ones_like(x.flatten(1)), torch.full_like(length, -torch.inf)
        rows, size, start = torch.arange(len(x), device=x.device), 0, 0
        while len(left := judge.going(rows, 1)):
            rows = rows[left]
            turned = sign[rows]
            turned[:, start : start + size] *= -1
            move = turned.view_as(x[rows]) * like(length[rows], x)
            losses = judge(judge.pulled(x[rows] + move, rows), rows)[0]
            better = losses > held[rows]
            sign[rows[better]], held[rows[better]] = turned[better], losses[better]
            start += size
            if start >= entries or not size:
                size, start = (-(-size // 2) if size > 1 else entries), 0
    return threat.project(judge.best, x)
