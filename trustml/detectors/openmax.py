"""OpenMax: the probability of an unknown class."""

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, logits_of, need_rows
from trustml.detectors._weibull import Weibulls, fit_weibulls
from trustml.errors import BadOption
from trustml.registry import detector

# Fewer distances than these have no tail to speak of.
LEAST = 3


@detector(source="Bendale & Boult 2016, arXiv:1511.06233, algorithms 1 and 2", reads=("logits",))
def openmax(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    tail: int = 20,
    revised: int = 10,
) -> Scorer:
    """Score by the probability of no known class, (B,), from 0 to 1.

    A class has the mean logits of its rightly answered training inputs, and a Weibull distribution
    of the greatest distances to them. A class of fewer than 3 is never known.

    Args:
        tail: greatest distances of a class that the distribution is fitted to.
        revised: how many of the highest logits are revised, all where there are fewer.

    Raises:
        NotApplicable: no logits.
        BadInput: no training outputs, or logits that are no numbers.
        BadOption: a tail below 3, or none revised.
    """
    for name, value, least in (("tail", tail, LEAST), ("revised", revised, 1)):
        if value < least:
            raise BadOption(f"openmax: {name}={value} is not allowed: it must be {least} or more")
    need_rows(train, "training")
    known = logits_of(train)
    right = known.argmax(1) == train.y
    centres, tails = _classes(known[right], train.y[right], tail)
    outliers = fit_weibulls(tails)

    def score(outputs: Outputs) -> Tensor:
        return _unknown(logits_of(outputs), centres, outliers, revised)

    return score


def _classes(logits: Tensor, y: Tensor, tail: int) -> tuple[Tensor, list[Tensor]]:
    """Return the mean logits (K, K) and greatest distances of each class, empty for too few."""
    centres, tails = torch.zeros_like(logits.T @ logits), []
    for label in range(logits.shape[1]):
        own = logits[y == label]
        if len(own) < LEAST:
            tails.append(own.new_empty(0))
            continue
        centres[label] = own.mean(0)
        distances = torch.linalg.vector_norm(own - centres[label], dim=1)
        tails.append(distances.topk(min(tail, len(own))).values)
    return centres, tails


def _unknown(logits: Tensor, centres: Tensor, outliers: Weibulls, revised: int) -> Tensor:
    """Return the softmax probability of what the revised logits lost."""
    count = min(revised, logits.shape[1])
    distances = torch.cdist(logits, centres, compute_mode="donot_use_mm_for_euclid_dist")
    rank = logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    weight = (1 - rank / count).clamp_min(0) * outliers.cdf(distances)
    lost = (logits * weight).sum(1, keepdim=True)
    return torch.cat([lost, logits * (1 - weight)], 1).softmax(1)[:, 0]
