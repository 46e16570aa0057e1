"""Nearest neighbours among the training features, exact, in blocks that memory holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from trustml.contracts import Outputs
from trustml.detectors._parts import features_of, need_rows
from trustml.detectors._reading import place_of
from trustml.errors import BadOption

BLOCK = 1000
SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Features (R, D) in the order of their labels y (R,), about their middle (D,).

    They lie where the model does: there a search is quickest.
    """

    features: Tensor
    y: Tensor
    middle: Tensor


def references(
    model: Any, train: Outputs, count: int | None, *, normalised: bool = False
) -> References:
    """Return the training features to look among: all, or `count` of them, always the same.

    Raises:
        BadInput: no training outputs, or features that are no numbers.
        BadOption: a count below 1.
        NotApplicable: no features.
    """
    if count is not None and count < 1:
        raise BadOption(f"samples={count} is not allowed: it must be 1 or more, or none for all")
    need_rows(train, "training")
    device = place_of(model, train.features)
    features, y = features_of(train).float().to(device), train.y.to(device)
    if count is not None and count < len(y):
        rows = torch.randperm(len(y), generator=Generator().manual_seed(SEED))[:count].to(device)
        features, y = features[rows], y[rows]
    order = y.argsort(stable=True)
    features = unit(features) if normalised else features
    middle = features.mean(0)
    return References(features[order] - middle, y[order], middle)


def unit(features: Tensor) -> Tensor:
    """Return features (B, D) of length 1; those of length 0 stay."""
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / length.clamp_min(torch.finfo(features.dtype).tiny)


def need_neighbours(owner: str, k: int, known: References, least: int = 1) -> None:
    """Refuse to look for more neighbours than there are.

    Raises:
        BadOption: k is below `least`, or above the number of references.
    """
    if not least <= k <= len(known.y):
        raise BadOption(
            f"{owner}: k={k} is not allowed: it must be from {least} to {len(known.y)}, the number "
            f"of training samples that are looked among"
        )


def nearest(points: Tensor, known: References, k: int) -> Tensor:
    """Return the distances (B, k) to the k nearest references, near to far."""
    found = [points.new_empty(0, k)]
    for block, closeness in _blocks(points, known):
        rows = closeness.topk(k, dim=1, sorted=False).indices
        found.append(_distances(block, known.features, rows).sort(dim=1).values)
    return torch.cat([part.to(points.device) for part in found])


def class_distances(points: Tensor, known: References, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance (B,) to the nearest reference of the label (B,), and of any other one.

    Infinite where there is no reference of the kind.
    """
    classes, counts = known.y.unique_consecutive(return_counts=True)
    own, other = [points.new_empty(0)], [points.new_empty(0)]
    start, labels = 0, labels.to(classes.device)
    for block, closeness in _blocks(points, known):
        parts = [part.max(1) for part in closeness.split(counts.tolist(), dim=1)]
        values = torch.stack([part.values for part in parts], 1)
        rows = torch.stack([part.indices for part in parts], 1) + counts.cumsum(0) - counts
        same = labels[start : start + len(block), None] == classes
        for found, kind in ((own, same), (other, ~same)):
            best = values.masked_fill(~kind, -torch.inf).argmax(1, keepdim=True)
            apart = _distances(block, known.features, rows.gather(1, best))[:, 0]
            found.append(apart.masked_fill(~kind.any(1), torch.inf))
        start += len(block)
    place = points.device
    return torch.cat([part.to(place) for part in own]), torch.cat([p.to(place) for p in other])


def _blocks(points: Tensor, known: References) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield blocks (b, D) about the middle, and how close each reference is (b, R): more is nearer.

    Closeness is ‖x‖² - ‖x - r‖², of one order with the distance and quicker.
    """
    size = known.features.square().sum(1)
    for block in (points.float().to(known.middle.device) - known.middle).split(BLOCK):
        yield block, torch.addmm(size, block, known.features.T, beta=-1, alpha=2)


def _distances(points: Tensor, features: Tensor, rows: Tensor) -> Tensor:
    """Return ‖point - feature‖ (B, k) of the rows (B, k), free of the product's rounding."""
    return torch.linalg.vector_norm(points[:, None] - features[rows], dim=2)
