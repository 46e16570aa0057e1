"""Bayesian linear regression: sure at the barycentre, unsure away, and a basis that forgets."""

import torch
from _picture import BLUE, GREY, INK, ORANGE, headline, panels, save
from matplotlib.axes import Axes
from torch import Tensor

from trustml.bayes.linear_regression import (
    Weights,
    fit,
    gaussian_basis,
    identity_basis,
    predict,
)

NOISE, BETA = 0.3, 1 / 0.3**2
CENTRES, WIDTH = torch.linspace(-3, 3, 9), 0.6
GRID = torch.linspace(-7, 7, 561, dtype=torch.float64)


def bumps(x: Tensor) -> Tensor:
    return gaussian_basis(x, CENTRES, WIDTH)


def noise(count: int) -> Tensor:
    return NOISE * torch.randn(count, generator=torch.Generator().manual_seed(0)).double()


def draw(
    axes: list[Axes], x: Tensor, y: Tensor, answer: tuple[Tensor, Tensor], truth: Tensor
) -> None:
    (axis, below), (mean, variance) = axes, answer
    deviation, known = 2 * variance.sqrt(), 2 * NOISE
    axis.fill_between(GRID, mean - deviation, mean + deviation, color=BLUE, alpha=0.16, linewidth=0)
    axis.fill_between(GRID, mean - known, mean + known, color=BLUE, alpha=0.2, linewidth=0)
    axis.plot(GRID, truth, color=INK, linestyle=":", linewidth=1.1)
    axis.plot(GRID, mean, color=BLUE)
    axis.plot(x, y, "o", color=ORANGE, markersize=3.2, alpha=0.85)
    axis.set_xlim(-7, 7)
    axis.set_ylim(-4.2, 4.2)
    ignorance = (variance - NOISE**2).clamp_min(0).sqrt()
    below.fill_between(GRID, 0 * GRID, ignorance, color=BLUE, alpha=0.25, linewidth=0)
    below.plot(GRID, ignorance, color=BLUE, linewidth=1.4)
    below.plot(x, 0 * x - 0.06, "|", color=ORANGE, markersize=5)
    below.set_ylim(-0.12, 0.75)
    below.set_xlabel("x", color=GREY)


def width(weights: Weights, phi: Tensor) -> Tensor:
    return predict(weights, phi)[1].sqrt()


def main() -> None:
    figure, axes = panels(
        2, 3, (12.6, 6.0), sharex=True, sharey="row", gridspec_kw={"height_ratios": [2.4, 1]}
    )
    gap = torch.cat([torch.linspace(-4, -2.5, 15), torch.linspace(1.5, 3, 15)]).double()
    line = torch.linspace(-1.5, 1.5, 30).double()
    for column, x, title in (
        (axes[0::3], line, "a line"),
        (axes[1::3], gap, "a line with a hole in its data"),
    ):
        y = 0.5 * x - 0.3 + noise(len(x))
        weights = fit(identity_basis(x), y, 0.1, BETA)
        answer = predict(weights, identity_basis(GRID))
        draw(column, x, y, answer, 0.5 * GRID - 0.3)
        surest = GRID[answer[1].argmin()]
        for axis in column:
            axis.axvline(surest, color=GREY, linewidth=0.8, linestyle="--")
        column[1].annotate("surest at the barycentre", (surest, 0.66), (5, 0), fontsize=8,
                           textcoords="offset points", color=GREY)  # fmt: skip
        column[0].set_title(title)
        assert (surest - x.mean()).abs() < 0.1  # also where the barycentre is in the hole

    x = torch.linspace(-2.6, 2.6, 45).double()
    y = 2 * torch.sin(2 * x) + noise(len(x))
    weights = fit(bumps(x), y, 0.1, BETA)
    draw(axes[2::3], x, y, predict(weights, bumps(GRID)), 2 * torch.sin(2 * GRID))
    axes[2].set_title("a sinusoid, nine Gaussian bumps")
    edge, far = width(weights, bumps(torch.tensor([3.2, 7.0])))
    assert edge > 1.5 * NOISE
    assert abs(far - NOISE) < 1e-4  # the failure: far away it is as sure as amid the data
    axes[5].annotate(
        "no bump\nreaches here", (6.3, 0.02), (7.0, 0.44), ha="right", color=ORANGE, fontsize=8,
        arrowprops={"arrowstyle": "->", "color": ORANGE, "linewidth": 0.9},
    )  # fmt: skip
    axes[0].set_ylabel("prediction", color=GREY)
    axes[3].set_ylabel("not known: √ φᵀΣφ", color=GREY)
    headline(
        figure,
        "What a linear model does not know",
        "Dark band: the noise, ±2 standard deviations; pale: also what is not known of the "
        "weights, 1/β + φ(x)ᵀΣφ(x), drawn by itself below. With φ = (1, x) it is least at the "
        "barycentre of the data, even in a hole, and grows without bound. With Gaussian bumps "
        "every φ vanishes far away, and the doubt with it: a known failure.",
    )
    save(figure, "bayesian_linear_regression")


if __name__ == "__main__":
    main()
