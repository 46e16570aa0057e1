"""Forward-mode differentiation by hand: a function's trace, every step with its derivative."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trustml.bayes.checks import finite_number
from trustml.errors import BadInput


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a trace: v₄ = ln v₃, its value, and its derivative along the direction."""

    name: str
    expression: str
    value: float
    derivative: float


@dataclass(frozen=True, slots=True)
class Dual:
    """A number that carries its derivative; each operation on it writes a line of the tape."""

    value: float
    derivative: float
    name: str
    tape: list[Step]

    def __add__(self, other: "Dual") -> "Dual":
        value, derivative = self.value + other.value, self.derivative + other.derivative
        return self._write(f"{self.name} + {other.name}", value, derivative)

    def __sub__(self, other: "Dual") -> "Dual":
        value, derivative = self.value - other.value, self.derivative - other.derivative
        return self._write(f"{self.name} - {other.name}", value, derivative)

    def __mul__(self, other: "Dual") -> "Dual":
        derivative = self.derivative * other.value + self.value * other.derivative
        return self._write(f"{self.name} · {other.name}", self.value * other.value, derivative)

    def __truediv__(self, other: "Dual") -> "Dual":
        if other.value == 0:
            raise BadInput(f"{self.name} / {other.name}: {other.name} is 0")
        quotient = self.value / other.value
        derivative = (self.derivative - quotient * other.derivative) / other.value
        return self._write(f"{self.name} / {other.name}", quotient, derivative)

    def _write(self, expression: str, value: float, derivative: float) -> "Dual":
        return _write(self.tape, expression, value, derivative)


def sin(x: Dual) -> Dual:
    """Return sin x; its derivative is cos x times that of x."""
    return _write(x.tape, f"sin {x.name}", math.sin(x.value), math.cos(x.value) * x.derivative)


def exp(x: Dual) -> Dual:
    """Return eˣ; its derivative is eˣ times that of x."""
    value = math.exp(x.value)
    return _write(x.tape, f"exp {x.name}", value, value * x.derivative)


def ln(x: Dual) -> Dual:
    """Return ln x; its derivative is that of x over x.

    Raises:
        BadInput: x is not above 0.
    """
    if not x.value > 0:
        raise BadInput(f"ln {x.name}: {x.name} = {x.value} is not above 0")
    return _write(x.tape, f"ln {x.name}", math.log(x.value), x.derivative / x.value)


def trace(
    function: Callable[..., Dual], at: Sequence[float], direction: Sequence[float]
) -> tuple[Step, ...]:
    """Return v₁, v₂, … of the function at the point; the last line is f and its derivative.

    One run gives the derivative along one direction: as many runs as inputs give the gradient.

    Raises:
        BadInput: no inputs, a direction of another length, numbers that are not finite, or a point
            outside the domain of an operation.
    """
    if not at or len(at) != len(direction):
        raise BadInput(f"{len(at)} inputs and a direction of {len(direction)}: they must match")
    if not all(finite_number(number) for number in (*at, *direction)):
        raise BadInput("inputs and direction must be finite numbers")
    tape: list[Step] = []
    inputs = [
        _write(tape, f"x{_low(i)}", value, along)
        for i, (value, along) in enumerate(zip(at, direction, strict=True), start=1)
    ]
    function(*inputs)
    return tuple(tape)


def worked_example(x1: Dual, x2: Dual) -> Dual:
    """Return ln sin x₁ + x₁ exp x₂, an example whose trace has seven lines."""
    logarithm = ln(sin(x1))
    return logarithm + x1 * exp(x2)


def _write(tape: list[Step], expression: str, value: float, derivative: float) -> Dual:
    name = f"v{_low(len(tape) + 1)}"
    tape.append(Step(name, expression, value, derivative))
    return Dual(value, derivative, name, tape)


def _low(number: int) -> str:
    """Return the number in subscript digits."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
