"""CROWN: bounds of the logits as linear functions of the input, walked back through every bend.

Source: Zhang et al. 2018, arXiv:1811.00866; with interval bounds inside, Zhang et al. 2020,
arXiv:1906.06316 (CROWN-IBP).
"""

import torch
from torch import Tensor

from trustml.bounds._bends import Hinge, Smooth
from trustml.bounds._reach import Region, region
from trustml.bounds._walk import Span, bends, input_span, lowest, margin_bounds, one_hot
from trustml.bounds.graph import Graph
from trustml.bounds.interval import AffinePart, next_span
from trustml.contracts import Threat

# Entries that get bounds of their own at a time.
_WALKS = 1 << 12


def crown_margins(
    graph: Graph, x: Tensor, y: Tensor, threat: Threat, *, refine: int = 1 << 30,
    wanted: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return lower bounds (B, K), float64, of logit y minus each logit over the whole threat.

    Never below those of `interval_margins`. Infinite for y itself, and where `wanted` is False.

    Args:
        graph: the network, from `graph_of`.
        x: inputs (B, *S) in the box.
        y: the classes (B,) that should stay ahead.
        threat: ball and box; whether it is targeted plays no part.
        refine: the entries before a bend get backward bounds of their own if at most this many of a
            sample's can bend; else they keep interval bounds. 0 is CROWN-IBP.
        wanted: which (B, K) to bound; all of them if None.
    """
    around, y = region(x, threat, graph.device), y.to(graph.device)
    spans = crown_spans(graph, around, refine)
    if wanted is None:
        wanted = torch.ones(len(y), graph.classes, dtype=torch.bool)
    wanted = wanted.to(graph.device)
    simple, better = (
        margin_bounds(graph, spans, around, y, wanted, through=through) for through in (False, True)
    )
    return torch.fmax(simple, better)


def crown_spans(graph: Graph, around: Region, refine: int) -> list[Span]:
    """Return bounds of every step: intervals, and backward ones before the bends where they pay."""
    spans = [input_span(graph, around)]
    affine = AffinePart(graph, around)
    readers: dict[int, list[Hinge | Smooth | None]] = {}
    for step in graph.steps:
        if bends(step):
            bend = step.operation if isinstance(step.operation, Hinge | Smooth) else None
            readers.setdefault(step.reads[0], []).append(bend)
    for number in range(1, graph.output + 1):
        span = affine.narrowed(number, next_span(graph, spans, number))
        # Over a box, intervals are exact up to the first bend.
        gains = around.norm != "linf" or any(bends(s) for s in graph.steps[1:number])
        if refine and gains and number in readers:
            span = _refined(graph, [*spans, span], around, readers[number], refine)
        spans.append(span)
    return spans


def _refined(
    graph: Graph, spans: list[Span], around: Region, readers: list[Hinge | Smooth | None],
    refine: int,
) -> Span:  # fmt: skip
    """Return the last span, with backward bounds for the entries that can bend."""
    span, number = spans[-1], len(spans) - 1
    bent = torch.zeros_like(span.lower, dtype=torch.bool)
    for bend in readers:
        bent |= (span.upper > span.lower) if bend is None else bend.bent(span.lower, span.upper)
    flat = bent.flatten(1)
    rows, places = (flat & (flat.sum(1, keepdim=True) <= refine)).nonzero(as_tuple=True)
    lower, upper = span.lower.flatten(1).clone(), span.upper.flatten(1).clone()
    for samples, entries in zip(rows.split(_WALKS), places.split(_WALKS), strict=True):
        for sign, bound in ((1.0, lower), (-1.0, upper)):
            function = number, sign * one_hot(entries, graph.steps[number].shape)
            bound[samples, entries] = sign * lowest(
                graph, spans, around, function, samples, through=True
            )
    return span.narrowed(lower.view_as(span.lower), upper.view_as(span.upper))
