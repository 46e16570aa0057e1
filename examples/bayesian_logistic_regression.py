"""Bayesian logistic regression: the MAP grows ever surer away from the data, the others do not."""

import torch
from _picture import GREY, INK, SIDES, headline, panels, save
from torch import Tensor

from trustml.bayes.linear_regression import identity_basis
from trustml.bayes.logistic_regression import Method, fit, predict

REACH, ALPHA = 9.0, 0.05
METHODS: tuple[tuple[Method, str], ...] = (
    ("map", "MAP: one line"),
    ("laplace", "Laplace: the curvature there"),
    ("variational", "variational: the best Gaussian"),
)


def blobs(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(count) % 2
    centre = torch.where(y[:, None] == 1, torch.tensor([1.5, 1.0]), torch.tensor([-1.5, -1.0]))
    return centre + 0.9 * torch.randn(count, 2, generator=generator), y


def main() -> None:
    x, y = blobs(40)
    line = torch.linspace(-REACH, REACH, 181)
    grid = torch.cartesian_prod(line, line)
    far = torch.full((1, 2), 40 * REACH)
    figure, axes = panels(1, 3, (12.6, 5.2), sharex=True, sharey=True)
    sure = {}
    for axis, (method, title) in zip(axes, METHODS, strict=True):
        weights = fit(identity_basis(x), y, method=method, alpha=ALPHA)
        probability = predict(weights, identity_basis(grid))[0].view(181, 181).T
        image = axis.contourf(line, line, probability, 24, cmap=SIDES, vmin=0, vmax=1)
        levels = axis.contour(
            line, line, probability, [0.05, 0.25, 0.5, 0.75, 0.95], colors=INK, linewidths=0.7
        )
        axis.clabel(levels, fmt="%.2f", fontsize=7)
        for label, colour in ((0, "#172554"), (1, "#7c2d12")):
            axis.plot(*x[y == label].T, "o", color=colour, markersize=5, markeredgecolor="white",
                      markeredgewidth=0.8)  # fmt: skip
        sure[method] = predict(weights, identity_basis(far))[0].item()
        axis.set_title(title)
        axis.set_xlabel(
            f"40 times beyond the upper right corner: P = {sure[method]:.4f}", color=GREY
        )
        axis.set_aspect("equal")
        axis.set_xticks([])
        axis.set_yticks([])
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.25, 0.5, 0.75, 1], shrink=0.8, pad=0.01)
    bar.set_label("probability of orange")
    assert sure["map"] == 1.0
    assert sure["laplace"] < 1 - 1e-5
    assert sure["variational"] < 1 - 1e-5
    headline(
        figure,
        "Far away one should not be sure",
        "Contours of equal probability. The MAP's are parallel: it grows surer with distance, "
        "data or none. Averaged over all lines that the data allow, they fan out, for the "
        "variance of the logit grows as the square of the distance.",
    )
    save(figure, "bayesian_logistic_regression")


if __name__ == "__main__":
    main()
