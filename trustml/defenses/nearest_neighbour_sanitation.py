"""Labels that the nearest neighbours do not share."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trustml.contracts import Split
from trustml.errors import BadOption
from trustml.registry import safeguard

ROWS = 1000


@safeguard(
    source="Paudice, Muñoz-González, Lupu 2018, arXiv:1803.00992",
    stage="data",
    beaten_by="flips in heaps, so that the neighbours of a flip are flips",
    does_not_stop="poisons whose neighbours agree with them: triggers, clean labels",
)
def nearest_neighbour_sanitation(
    split: Split,
    /,
    *,
    neighbours: int = 10,
    agreement: float = 0.5,
    action: Literal["drop", "relabel"] = "drop",
) -> Split:
    """Return the split without the samples, or with new labels for them, that differ from others.

    A sample is found where another class than its own has more than a share `agreement` of its
    nearest neighbours, by the inputs' Euclidean distance.

    Args:
        split: labels may be wrong.
        neighbours: how many are asked.
        agreement: share of them that must say the same.
        action: with the samples that are found.

    Raises:
        BadOption: fewer than one neighbour, as many as samples, or a share outside [0.5, 1).
    """
    if not 1 <= neighbours < len(split):
        raise BadOption(
            f"nearest_neighbour_sanitation: neighbours={neighbours} of {len(split)} samples is "
            f"not allowed: 1 to {len(split) - 1}"
        )
    if not 0.5 <= agreement < 1:
        raise BadOption(
            f"nearest_neighbour_sanitation: agreement={agreement:g} is not allowed: 0.5 to below 1"
        )
    votes = _votes(split, neighbours)
    most, said = votes.max(1)
    wrong = (most > agreement * neighbours) & (said != split.y)
    if action == "drop":
        return split.at(~wrong)
    return replace(split, y=torch.where(wrong, said, split.y))


def _votes(split: Split, neighbours: int) -> Tensor:
    """Return how many (B, K) of each sample's neighbours, itself left out, are of each class."""
    flat, votes = split.x.flatten(1), []
    for start in range(0, len(flat), ROWS):
        far = torch.cdist(flat[start : start + ROWS], flat)
        rows = torch.arange(len(far), device=far.device)
        far[rows, rows + start] = torch.inf
        near = far.topk(neighbours, largest=False).indices
        votes.append(one_hot(split.y[near], split.classes).sum(1))
    return torch.cat(votes)
