"""The worked example's trace to its printed digits, and against torch.func.jvp."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trustml.bayes.forward_mode import Dual, exp, ln, sin, trace, worked_example
from trustml.errors import BadInput

POINT = (math.pi / 6, 1.0)


def test_worked_example_to_its_printed_digits() -> None:
    """Published: f = 0.7301418565 and ∂f/∂x₁ = 4.4503326360 at (π/6, 1).

    The first is cut, not rounded: -ln 2 + πe/6 = 0.73014185656…
    """
    last = trace(worked_example, POINT, (1.0, 0.0))[-1]
    assert f"{last.value:.15f}".startswith("0.7301418565")
    assert last.value == pytest.approx(math.pi * math.e / 6 - math.log(2), abs=1e-15)
    assert f"{last.derivative:.10f}" == "4.4503326360"


def test_every_line_of_the_trace() -> None:
    """By hand: sin π/6 = ½, cos π/6 = √3/2, and the chain rule line by line."""
    lines = trace(worked_example, POINT, (1.0, 0.0))
    assert [(line.name, line.expression) for line in lines] == [
        ("v₁", "x₁"), ("v₂", "x₂"), ("v₃", "sin v₁"), ("v₄", "ln v₃"),
        ("v₅", "exp v₂"), ("v₆", "v₁ · v₅"), ("v₇", "v₄ + v₆"),
    ]  # fmt: skip
    values = [math.pi / 6, 1, 0.5, -math.log(2), math.e, math.pi * math.e / 6]
    slopes = [1, 0, math.sqrt(3) / 2, math.sqrt(3), 0, math.e]
    assert [line.value for line in lines[:-1]] == pytest.approx(values)
    assert [line.derivative for line in lines[:-1]] == pytest.approx(slopes)


numbers = st.floats(0.2, 2.9)


@given(numbers, numbers, st.floats(-2, 2), st.floats(-2, 2))
def test_derivative_is_torchs(x1: float, x2: float, d1: float, d2: float) -> None:
    """Forward mode of torch on the same functions, in float64."""

    def ours(a: Dual, b: Dual) -> Dual:
        return worked_example(a, b) - sin(b) * a / exp(ln(b))

    def theirs(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a.sin().log() + a * b.exp() - b.sin() * a / b

    tensors = [torch.tensor(v, dtype=torch.float64) for v in (x1, x2, d1, d2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, while it loads
        value, slope = torch.func.jvp(theirs, tuple(tensors[:2]), tuple(tensors[2:]))
    last = trace(ours, (x1, x2), (d1, d2))[-1]
    assert last.value == pytest.approx(value.item(), rel=1e-10, abs=1e-10)
    assert last.derivative == pytest.approx(slope.item(), rel=1e-9, abs=1e-9)


def test_bad_input() -> None:
    with pytest.raises(BadInput, match="not above 0"):
        trace(worked_example, (-1.0, 1.0), (1.0, 0.0))
    with pytest.raises(BadInput, match="match"):
        trace(worked_example, POINT, (1.0,))
    with pytest.raises(BadInput, match="finite"):
        trace(worked_example, (math.nan, 1.0), (1.0, 0.0))
    with pytest.raises(BadInput, match="is 0"):
        trace(lambda a, b: a / b, (1.0, 0.0), (1.0, 0.0))
    with pytest.raises(BadInput, match="match"):
        trace(worked_example, (), ())
