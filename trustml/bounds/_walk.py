"""Bounds forwards and backwards through a graph, sound for the float32 network itself.

Each step is taken as the exact operation plus an unknown error: at most what float32 may round
away in it, given how large its terms can be. So a bound holds for the network as any device
computes it, in whatever order it sums, and not just for the network on paper. The bounds are
computed in float64, whose own rounding is 2^29 times smaller and is covered by making each error a
little larger.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.bounds._bends import Hinge, MaxPool, Smooth
from trustml.bounds._operations import Affine, Sum, rounding
from trustml.bounds._reach import Region
from trustml.bounds.graph import Graph, Step

# Numbers that one array of the backward walk may hold.
_CHUNK = 1 << 22
_FLOAT64_TOO = 1 + 1e-6
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """What a step's output (B, *S) lies between, and at most how much of it is float32's error."""

    lower: Tensor
    upper: Tensor
    error: Tensor | None

    @property
    def size(self) -> Tensor:
        """The largest absolute value."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    def narrowed(self, lower: Tensor, upper: Tensor) -> "Span":
        """Return the span cut with other bounds that hold as well."""
        return Span(torch.fmax(self.lower, lower), torch.fmin(self.upper, upper), self.error)


def input_span(graph: Graph, around: Region) -> Span:
    """Return the bounds of the inputs."""
    shape = (-1, *graph.steps[0].shape)
    return Span(around.lower.view(shape), around.upper.view(shape), None)


def stepped(step: Step, read: list[Span], unit: float) -> Span:
    """Return the interval bounds of a step from those of what it reads."""
    operation = step.operation
    if isinstance(operation, MaxPool):
        return Span(operation.forward(read[0].lower), operation.forward(read[0].upper), None)
    if isinstance(operation, Hinge | Smooth):
        lower, upper = operation.forward(read[0].lower), operation.forward(read[0].upper)
        return _around(lower, upper, operation.terms, unit)
    if isinstance(operation, Sum):
        first, second = read
        low, high = second.lower * operation.sign, second.upper * operation.sign
        error = _error(first.size + second.size, operation.terms, unit)
        return Span(
            first.lower + torch.minimum(low, high) - error,
            first.upper + torch.maximum(low, high) + error,
            error,
        )
    assert operation is not None
    return _affine(operation, read[0], unit)


def _affine(operation: Affine, read: Span, unit: float) -> Span:
    if not operation.terms:
        return Span(operation.forward(read.lower), operation.forward(read.upper), None)
    middle = operation.forward((read.lower + read.upper) / 2)
    wide = operation.spread((read.upper - read.lower) / 2)
    if operation.offset is not None:
        middle = middle + operation.offset
    size = operation.spread(read.size)
    size = size if operation.offset_size is None else size + operation.offset_size
    error = _error(size, operation.terms, unit)
    return Span(middle - wide - error, middle + wide + error, error)


def _around(lower: Tensor, upper: Tensor, terms: int, unit: float) -> Span:
    if not terms:
        return Span(lower, upper, None)
    error = _error(torch.maximum(lower.abs(), upper.abs()), terms, unit)
    return Span(lower - error, upper + error, error)


def _error(size: Tensor, terms: int, unit: float) -> Tensor:
    return size * (rounding(terms, unit) * _FLOAT64_TOO) + terms * _TINY


def bends(step: Step) -> bool:
    """Return whether the step is no affine function of what it reads."""
    return isinstance(step.operation, Hinge | Smooth | MaxPool)


def lowest(
    graph: Graph, spans: list[Span], around: Region, function: tuple[int, Tensor], rows: Tensor,
    *, through: bool,
) -> Tensor:  # fmt: skip
    """Return lower bounds (P,) of linear functions of a step's output.

    Args:
        graph: the network.
        spans: bounds of each step up to that one.
        around: what the attacker can reach.
        function: the step's number and weights (P, *S) over its output.
        rows: which sample (P,) each function is asked about.
        through: replace each bend by lines and go on to the input (CROWN); else stop at the bends
            and use their intervals.
    """
    number, weights = function
    if not len(rows):
        return weights.new_zeros(0)
    size = max(1, _CHUNK // graph.widest)
    parts = [
        _lowest(graph, spans, around, (number, part), samples, through)
        for part, samples in zip(weights.split(size), rows.split(size), strict=True)
    ]
    return torch.cat(parts)


def _lowest(
    graph: Graph, spans: list[Span], around: Region, function: tuple[int, Tensor], rows: Tensor,
    through: bool,
) -> Tensor:  # fmt: skip
    number, weights = function
    pending = {number: weights}
    total = weights.new_zeros(len(weights))
    for place in range(number, 0, -1):
        weights_here = pending.pop(place, None)
        if weights_here is None:
            continue
        step, span = graph.steps[place], spans[place]
        if bends(step) and not through:
            total += _at_worst(weights_here, span, rows)
            continue
        if span.error is not None:
            total -= (weights_here.abs() * span.error[rows]).flatten(1).sum(1)
        before, constant = _back(step, weights_here, spans, rows)
        total += constant
        for read, part in zip(step.reads, before, strict=True):
            pending[read] = pending[read] + part if read in pending else part
    if 0 in pending:
        total += around.lowest(pending[0].flatten(1), rows)
    return total


def _back(
    step: Step, weights: Tensor, spans: list[Span], rows: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Return weights over what the step reads, and a constant (P,), together never above."""
    operation = step.operation
    if isinstance(operation, Sum):
        return [weights, operation.sign * weights], weights.new_zeros(len(weights))
    if isinstance(operation, MaxPool | Hinge | Smooth):
        read = spans[step.reads[0]]
        lower, upper = read.lower[rows], read.upper[rows]
        if isinstance(operation, MaxPool):
            before, constant = operation.back(weights, lower, upper)
            return [before], constant
        lines = operation.lines(lower, upper)
        up, down = weights.clamp_min(0), weights.clamp_max(0)
        constant = (up * lines.low_offset + down * lines.high_offset).flatten(1).sum(1)
        return [up * lines.low_slope + down * lines.high_slope], constant
    assert operation is not None
    constant = weights.new_zeros(len(weights))
    if operation.offset is not None:
        constant = (weights * operation.offset).flatten(1).sum(1)
    return [operation.back(weights)], constant


def _at_worst(weights: Tensor, span: Span, rows: Tensor) -> Tensor:
    low = weights.clamp_min(0) * span.lower[rows] + weights.clamp_max(0) * span.upper[rows]
    return low.flatten(1).sum(1)


def margin_bounds(
    graph: Graph, spans: list[Span], around: Region, y: Tensor, open_pairs: Tensor, *, through: bool
) -> Tensor:
    """Return lower bounds (B, K) of the logit of y minus each logit; infinite where not asked for.

    Args:
        graph: the network.
        spans: bounds of every step.
        around: what the attacker can reach.
        y: the classes (B,) that should stay ahead.
        open_pairs: which (B, K) are asked for.
        through: as in `lowest`.
    """
    rows, rivals = (open_pairs & (one_hot(y, (graph.classes,)) == 0)).nonzero(as_tuple=True)
    functions = one_hot(y[rows], (graph.classes,)) - one_hot(rivals, (graph.classes,))
    table = torch.full((len(y), graph.classes), torch.inf, dtype=torch.float64, device=y.device)
    found = lowest(graph, spans, around, (graph.output, functions), rows, through=through)
    return table.index_put((rows, rivals), found)


def one_hot(places: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the functions (P, *shape) that read the entries `places` (P,) of a step's output."""
    count = torch.Size(shape).numel()
    flat = torch.zeros(len(places), count, dtype=torch.float64, device=places.device)
    return flat.scatter_(1, places[:, None], 1.0).view(len(places), *shape)


def affine_rows(graph: Graph, number: int, places: Tensor) -> Tensor:
    """Return the weights (P, D) over the input of entries `places` of a step before any bend."""
    pending = {number: one_hot(places, graph.steps[number].shape)}
    for place in range(number, 0, -1):
        weights = pending.pop(place, None)
        if weights is None:
            continue
        step = graph.steps[place]
        for read, part in zip(step.reads, _back(step, weights, [], places)[0], strict=True):
            pending[read] = pending[read] + part if read in pending else part
    nothing = torch.zeros(len(places), *graph.steps[0].shape, dtype=torch.float64)
    return pending.get(0, nothing.to(places.device)).flatten(1)
