"""Forward-mode differentiation, line by line: f(x₁, x₂) = ln sin x₁ + x₁ exp x₂ at (π/6, 1)."""

import math

import torch
from _picture import BLUE, GREY, INK, ORANGE, PALE, headline, panels, save

from trustml.bayes.forward_mode import trace, worked_example

POINT = (math.pi / 6, 1.0)
COLUMNS = ((0.03, "step"), (0.13, "operation"), (0.36, "value"), (0.60, "∂/∂x₁"), (0.82, "∂/∂x₂"))


def main() -> None:
    along = [trace(worked_example, POINT, direction) for direction in ((1.0, 0.0), (0.0, 1.0))]
    result = along[0][-1]
    assert f"{result.derivative:.10f}" == "4.4503326360"
    assert abs(result.value - 0.7301418565) < 1e-10
    x = torch.tensor(POINT, dtype=torch.float64, requires_grad=True)
    (x[0].sin().log() + x[0] * x[1].exp()).backward()
    assert torch.allclose(x.grad, torch.tensor([t[-1].derivative for t in along]).double())

    figure, (axis,) = panels(1, 1, (8.6, 4.6))
    axis.set_axis_off()
    axis.set_xlim(0, 1)
    axis.set_ylim(-len(along[0]) - 0.5, 0.6)
    for left, name in COLUMNS:
        axis.text(left, 0, name, fontweight="bold", color=GREY, va="center")
    axis.axhline(-0.5, color=INK, linewidth=1)
    for row, (first, second) in enumerate(zip(*along, strict=True), start=1):
        last = row == len(along[0])
        if row % 2 == 0:
            axis.axhspan(-row - 0.5, -row + 0.5, color=PALE, alpha=0.45, linewidth=0)
        cells = (
            (first.name, INK),
            (first.expression, INK),
            (f"{first.value: .10f}", INK),
            (f"{first.derivative: .10f}", BLUE),
            (f"{second.derivative: .10f}", ORANGE),
        )
        for (left, _), (text, colour) in zip(COLUMNS, cells, strict=True):
            axis.text(left, -row, text, color=colour, va="center", family="DejaVu Sans Mono",
                      fontweight="bold" if last else "normal")  # fmt: skip
    axis.axhline(-len(along[0]) - 0.5, color=INK, linewidth=1)
    headline(
        figure,
        "ln sin x₁ + x₁ exp x₂ at (π/6, 1), by forward mode",
        "Each step carries its value and its derivative along one direction; two runs give both "
        "partial derivatives, equal to torch's autograd. The last line is f.",
    )
    save(figure, "forward_mode")


if __name__ == "__main__":
    main()
