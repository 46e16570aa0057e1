"""Attacks one after the other, each on what the others left standing."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.contracts import Classifier, Random, Threat

Stage = Callable[[Classifier, Tensor, Tensor, Threat, Random], Tensor]


def in_turn(
    model: Classifier, x: Tensor, y: Tensor, threat: Threat, random: Random, stages: Sequence[Stage]
) -> Tensor:
    """Return for each input (B, *S) the first stage's point that wins, else the last stage's."""
    best = x.clone()
    left = torch.arange(len(x), device=x.device)
    for number, stage in enumerate(stages):
        if not len(left):
            break
        mine, allowed, part = x[left], threat.at(left), at(model, left)
        # Folded, so that two stages of one kind do not begin at the same random points.
        found = stage(part, mine, y[left], allowed, random.at(left).fold(number))
        # A minimum-norm stage may come back from outside the ball.
        found = allowed.project(found, mine)
        with frozen(model), torch.no_grad():
            won = allowed.reached(part(found), y[left])
        best[left] = found
        left = left[~won]
    return best
