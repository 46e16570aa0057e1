"""One step at a time: what float32 computes lies in the span of the exact operation."""

import pytest
import torch
from torch import Tensor, nn

from trustml.bounds._bends import BENDS, Hinge
from trustml.bounds._operations import Dense, Scale, Sum
from trustml.bounds._walk import Span, stepped
from trustml.bounds.graph import Step, graph_of
from trustml.bounds.interval import interval_bounds
from trustml.contracts import Norm
from trustml.threats import Lp

ENTRIES = 40
UNIT = 2.0**-24


def _near(value: Tensor) -> Span:
    wide = value.double()
    return Span(wide, wide, None)


WEIGHT, SHIFT = torch.linspace(-1, 1, 25 * ENTRIES).view(25, ENTRIES), torch.linspace(-3, 3, 25)
# What each operation is on paper, and as float32 rounds it.
STEPS = {
    "sum": (Sum(1), lambda a, b: a + b),
    "difference": (Sum(-1), lambda a, b: a - b),
    "leaky": (Hinge(0.3), lambda a, _: torch.nn.functional.leaky_relu(a, 0.3)),
    "tanh": (BENDS["tanh"], lambda a, _: torch.tanh(a)),
    "dense": (
        Dense(WEIGHT.double(), SHIFT.double()),
        lambda a, _: torch.nn.functional.linear(a, WEIGHT, SHIFT),
    ),
    "scale": (
        Scale(torch.tensor(0.3).double(), torch.tensor(0.1).double(), torch.tensor(0.1).double()),
        lambda a, _: a * torch.tensor(0.3).double().float() + torch.tensor(0.1).double().float(),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_float32_stays_within_its_error(name: str) -> None:
    """Inputs known exactly: all that the span is wide is rounding, and none of it is left out."""
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 50, ENTRIES, generator=generator)
    operation, computed = STEPS[name]
    read = [_near(one), _near(other)] if isinstance(operation, Sum) else [_near(one)]
    rounded = computed(one, other).double()
    step = Step(operation, (0, 1)[: len(read)], tuple(rounded.shape[1:]))
    span = stepped(step, read, UNIT)
    assert bool(((span.lower <= rounded) & (rounded <= span.upper)).all())
    assert float(((span.upper - span.lower) / span.size.clamp_min(1)).max()) < 1e-3
    assert span.error is not None
    assert torch.allclose(span.upper - span.error, span.lower + span.error, rtol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_a_ball_of_nothing_holds_what_float32_answers(norm: Norm) -> None:
    """No input moves, and still float32 errs through three layers: bounds in other norms, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(ENTRIES, 60), nn.Linear(60, 60), nn.Linear(60, 20)).eval()
        x = torch.rand(30, ENTRIES)
    with torch.no_grad():
        answers = module(x).double()
    lower, upper = interval_bounds(graph_of(module, (ENTRIES,)), x, Lp(norm, 0.0))
    assert bool(((lower <= answers) & (answers <= upper)).all())
    assert float((upper - lower).max()) < 1e-3
