"""Which samples no attack can ever fool: exact for affine models, bounds for ReLU networks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from trustml.access import frozen, in_blocks
from trustml.bounds._walk import bends
from trustml.bounds.crown import crown_margins
from trustml.bounds.graph import Graph, graph_of
from trustml.bounds.interval import exact_logits, interval_bounds, interval_margins
from trustml.bounds.linear import exact_distances, exact_margins, is_affine
from trustml.contracts import Split
from trustml.errors import NotApplicable
from trustml.randomness import keyed
from trustml.threats import Lp

# A bound this many times the clean margin below zero is not made good by the next method.
_HOPELESS_INTERVAL, _HOPELESS_CROWN = 100.0, 20.0
# Numbers that the bounds of one batch may hold, and samples that the graph is checked on.
_BATCH = 1 << 23
_CHECKED = 64

Margins = Callable[[Graph, Tensor, Tensor, Lp], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What is proved of N samples.

    Args:
        certified: (N,) bool: the float32 model misreads no input that the threat allows.
        margins: (N,) float64: how far ahead the class stays at worst, at least, as the cheapest
            method finds that proves it.
        method: "exact", "interval" or "interval, crown".
        distances: (N,) float64 to the nearest misread input where that is known exactly, else None.
    """

    certified: Tensor
    margins: Tensor
    method: str
    distances: Tensor | None = None


def certificate(
    module: nn.Module, split: Split, threat: Lp, *, walks: int | None = 200
) -> Certificate:
    """Return what can be proved about the module on the split, sample by sample.

    A sample's answer does not depend on the others. With a targeted threat the labels are the
    wanted classes, and what is proved is that the model never gives them.

    Args:
        module: float32, on any device.
        split: the samples; one that is wrong without an attack is not certified.
        threat: an Lp ball and box.
        walks: backward walks that one layer may cost a sample; 0 leaves it at intervals. As many as
            there are classes do for one hidden layer; deeper networks gain from hundreds. None
            takes what is quick: as many as classes for one hidden layer, else 0.

    Raises:
        NotApplicable: nothing can be proved about such a model or threat; the reason.
    """
    if not isinstance(threat, Lp):
        raise NotApplicable(f"certificates are for Lp threats, not for {type(threat).__name__}")
    graph = graph_of(module, tuple(split.x.shape[1:]))
    _check(graph, module, split)
    rows = max(1, _BATCH // sum(math.prod(step.shape) for step in graph.steps))
    exact = is_affine(graph)
    if walks is None:
        walks = graph.classes if sum(bends(step) for step in graph.steps) == 1 else 0
    parts, method = [], "exact" if exact else "interval"
    for part in torch.arange(len(split)).split(rows):
        batch, allowed = split.at(part), threat.at(part)
        margins = _worst(exact_margins if exact else interval_margins, graph, batch, allowed)
        if not exact:
            margins, tightened = _tightened(margins, graph, batch, allowed, walks)
            method = "interval, crown" if tightened else method
        parts.append(margins.cpu())
    margins = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
    distances = None
    if exact and not threat.targeted:
        box = (threat.low, threat.high)
        distances = exact_distances(graph, split.x, split.y, threat.norm, box).cpu()
    return Certificate(margins > 0, margins, method, distances)


def _tightened(
    margins: Tensor, graph: Graph, batch: Split, threat: Lp, walks: int
) -> tuple[Tensor, bool]:
    """Return the margins (B,) with CROWN's where intervals do not prove it, and if it was used."""
    used = False
    clean = _worst(_clean, graph, batch, threat)
    for hopeless, refine in ((_HOPELESS_INTERVAL, 0), (_HOPELESS_CROWN, walks // 2)):
        open_ = ((margins <= 0) & (clean > 0) & (margins > -hopeless * clean)).nonzero()[:, 0]
        # The last layer costs a walk for each other class; it is the second round that refines.
        if not len(open_) or graph.classes - 1 > walks or (used and not refine):
            break
        used, rows = True, open_.to(batch.x.device)
        method = partial(crown_margins, refine=refine)
        better = _worst(method, graph, batch.at(rows), threat.at(rows))
        margins = margins.index_put((open_,), torch.fmax(margins[open_], better))
    return margins, used


def _worst(margins: Margins, graph: Graph, batch: Split, threat: Lp) -> Tensor:
    """Return how far ahead (B,) the class that should stay ahead is, at least.

    That is the label, ahead of all others; with a targeted threat it is the answer to the clean
    input, ahead of the wanted class.
    """
    y = batch.y.to(graph.device)
    if not threat.targeted:
        return margins(graph, batch.x, y, threat).amin(1)
    answered = exact_logits(graph, batch.x).argmax(1)
    ahead = margins(graph, batch.x, answered, threat).gather(1, y[:, None])[:, 0]
    return torch.where(answered == y, -torch.inf, ahead)


def _clean(graph: Graph, x: Tensor, y: Tensor, threat: Lp) -> Tensor:
    """Return logit y minus each logit (B, K) without an attack; infinite for y itself."""
    logits = exact_logits(graph, x)
    return (logits.gather(1, y[:, None]) - logits).scatter(1, y[:, None], torch.inf)


def _check(graph: Graph, module: nn.Module, split: Split) -> None:
    """See that the graph answers as the module does, up to float32's rounding, at some points.

    Raises:
        NotApplicable: it draws random numbers, or does what tracing cannot see.
    """
    some = split.at(slice(0, _CHECKED))
    spread = keyed(0, some.ids).uniform(tuple(some.x.shape[1:]), "certificate")
    between = some.low + spread * (some.high - some.low)
    points = torch.cat([some.x, between.to(some.x.device)])
    device = next((t.device for t in (*module.parameters(), *module.buffers())), points.device)
    with frozen(module), torch.no_grad():
        said = in_blocks(module, points.to(device)).to(graph.device).double()
    lower, upper = interval_bounds(graph, points, Lp("linf", 0.0, split.low, split.high))
    if not bool(((lower <= said) & (said <= upper)).all()):
        raise NotApplicable(
            "no bounds: the model does not answer as its traced operations do (a random draw, or a "
            "step that tracing cannot see)"
        )
