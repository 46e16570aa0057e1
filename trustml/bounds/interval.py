"""Interval bound propagation: what each step can give if each number that it reads is on its own.

Source: Gowal et al. 2018, arXiv:1810.12715; the norms of the first layer, Wong & Kolter 2018,
arXiv:1711.00851.
"""

import torch
from torch import Tensor

from trustml.bounds._reach import Region, region
from trustml.bounds._walk import (
    Span,
    affine_rows,
    bends,
    input_span,
    margin_bounds,
    stepped,
)
from trustml.bounds.graph import Graph
from trustml.contracts import Threat

_CHUNK = 1 << 22


def interval_margins(graph: Graph, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """Return lower bounds (B, K), float64, of logit y minus each logit over the whole threat.

    Infinite for y itself. A sample whose row is above 0 is certified: nothing within the threat
    makes the float32 network answer anything but y.

    Args:
        graph: the network, from `graph_of`.
        x: inputs (B, *S) in the box.
        y: the classes (B,) that should stay ahead.
        threat: ball and box; whether it is targeted plays no part.
    """
    around, y = region(x, threat, graph.device), y.to(graph.device)
    spans = interval_spans(graph, around)
    everything = torch.ones(len(y), graph.classes, dtype=torch.bool, device=graph.device)
    return margin_bounds(graph, spans, around, y, everything, through=False)


def interval_bounds(graph: Graph, x: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
    """Return lower and upper bounds (B, K), float64, of the logits over the whole threat."""
    spans = interval_spans(graph, region(x, threat, graph.device))
    return spans[graph.output].lower, spans[graph.output].upper


def exact_logits(graph: Graph, x: Tensor) -> Tensor:
    """Return the logits (B, K) of x (B, *S), computed in float64."""
    x = x.to(graph.device).double()
    spans = [Span(x, x, None)]
    for step in graph.steps[1 : graph.output + 1]:
        middle = stepped(step, [spans[read] for read in step.reads], 0.0)
        # Without a unit of rounding the two bounds are one but for float64's own rounding.
        spans.append(Span(middle.lower, middle.lower, None))
    return spans[graph.output].lower


def interval_spans(graph: Graph, around: Region) -> list[Span]:
    """Return the interval bounds of every step up to the logits."""
    spans = [input_span(graph, around)]
    affine = AffinePart(graph, around)
    for number in range(1, graph.output + 1):
        spans.append(affine.narrowed(number, next_span(graph, spans, number)))
    return spans


def next_span(graph: Graph, spans: list[Span], number: int) -> Span:
    """Return the interval bounds of the step after those that are known."""
    step = graph.steps[number]
    return stepped(step, [spans[read] for read in step.reads], graph.unit)


class AffinePart:
    """The steps before the first bends, where a ball that is no box is bounded by its dual norm."""

    def __init__(self, graph: Graph, around: Region) -> None:
        """Start at the inputs; for Linf there is nothing to be gained."""
        self._graph, self._around = graph, around
        exact = around.x.view(-1, *graph.steps[0].shape)
        # For each step: its value at x, and how far float32 may have drifted from it.
        self._known: dict[int, tuple[Tensor, Tensor]] = {}
        if around.norm != "linf":
            self._known[0] = (exact, torch.zeros_like(exact))
        self._feeding = {read for step in graph.steps if bends(step) for read in step.reads}
        self._feeding.add(graph.output)

    def narrowed(self, number: int, span: Span) -> Span:
        """Return the span of the step, cut with ‖weights‖ · epsilon around its value at x."""
        step = self._graph.steps[number]
        if bends(step) or not all(read in self._known for read in step.reads):
            return span
        here, there = zip(*(self._known[read] for read in step.reads), strict=True)
        value = stepped(step, [Span(v, v, None) for v in here], 0.0)
        drifted = stepped(step, [Span(-d, d, None) for d in there], 0.0)
        middle = (value.lower + value.upper) / 2
        drift = (drifted.upper - drifted.lower) / 2
        drift = drift if span.error is None else drift + span.error
        self._known[number] = middle, drift
        if number not in self._feeding:
            return span
        far = self._far(number).view(-1, *step.shape) + drift
        return span.narrowed(middle - far, middle + far)

    def _far(self, number: int) -> Tensor:
        """Return how far (B, M) each entry can be moved, were there no box."""
        shape = self._graph.steps[number].shape
        places = torch.arange(torch.Size(shape).numel(), device=self._graph.device)
        inputs = torch.Size(self._graph.steps[0].shape).numel()
        size = max(1, _CHUNK // max(inputs, self._graph.widest))
        parts = [affine_rows(self._graph, number, part).abs() for part in places.split(size)]
        return torch.cat([self._dual(part) for part in parts], dim=1)

    def _dual(self, rows: Tensor) -> Tensor:
        """Return (B, M): the dual norms of rows (M, D) times epsilon."""
        around = self._around
        if around.norm == "l2":
            return around.epsilon * torch.linalg.vector_norm(rows, dim=1)
        if around.norm == "l1":
            return around.epsilon * rows.amax(1)
        count = around.epsilon.floor().clamp(0, rows.shape[1]).long()
        best = rows.topk(int(count.amax()), dim=1).values.cumsum(1)
        sums = torch.nn.functional.pad(best, (1, 0))
        return sums.T[count[:, 0]] * (around.high - around.low)
