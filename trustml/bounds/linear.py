"""Affine classifiers: exact distances and exact certificates."""

import torch
from torch import Tensor

from trustml.affine import minimal_distance
from trustml.bounds._reach import region
from trustml.bounds._walk import affine_rows, bends, margin_bounds
from trustml.bounds.graph import Graph
from trustml.bounds.interval import exact_logits, interval_spans
from trustml.contracts import Norm, Threat
from trustml.errors import NotApplicable


def is_affine(graph: Graph) -> bool:
    """Return whether the logits are an affine function of the input."""
    return not any(bends(step) for step in graph.steps[: graph.output + 1])


def affine_map(graph: Graph) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,), float64, with which the logits are weight @ x + bias.

    Raises:
        NotApplicable: they are not.
    """
    if not is_affine(graph):
        raise NotApplicable("an exact certificate needs logits that are affine in the input")
    weight = affine_rows(graph, graph.output, torch.arange(graph.classes, device=graph.device))
    nothing = torch.zeros(1, *graph.steps[0].shape, dtype=torch.float64, device=graph.device)
    return weight, exact_logits(graph, nothing)[0]


def exact_distances(
    graph: Graph, x: Tensor, y: Tensor, norm: Norm, box: tuple[float, float]
) -> Tensor:
    """Return the least norm (B,) of a move within the box at which another logit ties that of y.

    Infinite where no point of the box is misread, 0 where x is misread already.

    Raises:
        NotApplicable: the logits are not affine in the input.
    """
    weight, bias = affine_map(graph)
    return minimal_distance(weight, bias, x.to(graph.device), y.to(graph.device), norm, box)


def exact_margins(graph: Graph, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """Return the least (B, K) of logit y minus each logit over the threat, less float32's error.

    No attack gets lower, and one that gets as low exists. Infinite for y itself.

    Raises:
        NotApplicable: the logits are not affine in the input.
    """
    if not is_affine(graph):
        raise NotApplicable("an exact certificate needs logits that are affine in the input")
    around, y = region(x, threat, graph.device), y.to(graph.device)
    everything = torch.ones(len(y), graph.classes, dtype=torch.bool, device=graph.device)
    spans = interval_spans(graph, around)
    return margin_bounds(graph, spans, around, y, everything, through=True)
