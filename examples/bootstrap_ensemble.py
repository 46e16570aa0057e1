"""A bootstrap ensemble: each network sees another sample of the samples, and the mean is safer."""

import math

import torch
from _picture import BLUE, GREY, INK, ORANGE, SIDES, headline, panels, save
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn.functional import cross_entropy, nll_loss

from trustml.contracts import Split
from trustml.data.moons import moons
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import fit

MEMBERS, SIDE = 12, 141
RECIPE = (
    f'bnn:posterior=bootstrap,members={MEMBERS},body="mlp:hidden=[32,32]",epochs=200,'
    "batch_size=32,learning_rate=0.02,patience=0"
)
LINE = torch.linspace(0, 1, SIDE)


def dots(axis: Axes, train: Split) -> None:
    for label, colour in ((0, "#172554"), (1, "#7c2d12")):
        axis.plot(*train.x[train.y == label].T, "o", color=colour, markersize=4,
                  markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])


def losses(logits: Tensor, y: Tensor) -> tuple[list[float], list[float]]:
    """Return the loss of each member, and of the mean probability of the first so many."""
    each = [cross_entropy(member, y).item() for member in logits]
    logs = logits.log_softmax(2)
    together = [
        nll_loss(logs[:count].logsumexp(0) - math.log(count), y).item()
        for count in range(1, len(logits) + 1)
    ]
    return each, together


def main() -> None:
    data = moons(folder=None, samples=1000, noise=0.2, test=0.85)
    train, test = data.train, data.test
    recipe = read_recipe(RECIPE)
    model = build(recipe, train.domain, 0)
    fit(model, train, data.validation, recipe.training, 0)
    grid = torch.cartesian_prod(LINE, LINE)
    with torch.no_grad():
        on_grid = model.sample_logits(grid, MEMBERS).softmax(2)[:, :, 1]
        each, together = losses(model.sample_logits(test.x, MEMBERS), test.y)

    figure, axes = panels(1, 3, (13.2, 5.1))
    for member in on_grid:
        axes[0].contour(LINE, LINE, member.view(SIDE, SIDE).T, [0.5], colors=BLUE,
                        linewidths=1, alpha=0.55)  # fmt: skip
    axes[0].set_title(f"{MEMBERS} boundaries, one a resampling")
    mean = on_grid.mean(0).view(SIDE, SIDE).T
    image = axes[1].contourf(LINE, LINE, mean, 24, cmap=SIDES, vmin=0, vmax=1)
    axes[1].contour(LINE, LINE, mean, [0.05, 0.5, 0.95], colors=INK, linewidths=0.7)
    axes[1].set_title("their mean probability, at 5, 50 and 95 %")
    figure.colorbar(image, ax=axes[1], ticks=[0, 0.5, 1], shrink=0.8, pad=0.02)
    for axis in axes[:2]:
        dots(axis, train)

    sizes = range(1, MEMBERS + 1)
    alone = [sum(each[:count]) / count for count in sizes]
    axes[2].plot(sizes, each, "o", color=ORANGE, markersize=5, label="each member alone")
    axes[2].plot(
        sizes, alone, color=ORANGE, linewidth=1.1, linestyle="--", label="mean of these so far"
    )
    axes[2].plot(
        sizes, together, "o-", color=BLUE, markersize=4, label="the first so many together"
    )
    axes[2].set_ylim(bottom=0)
    axes[2].set_title(f"loss on {len(test)} test points, nats")
    axes[2].set_xlabel("members", color=GREY)
    axes[2].legend(loc="lower left")
    # The logarithm is concave: the mean probability never loses more than the members do.
    assert all(a <= b + 1e-6 for a, b in zip(together, alone, strict=True))
    assert together[-1] < 0.9 * alone[-1]
    assert float(on_grid.std(0).max()) > 0.2
    headline(
        figure,
        "Twelve networks, twelve resamplings",
        f"Each network learns from as many of the {len(train)} samples as there are, drawn with "
        "replacement, so that about 37 % of them are left out each time. Where the boundary hangs "
        "on a few samples the networks differ, and their mean is unsure; it loses less than the "
        "members do on average.",
    )
    save(figure, "bootstrap_ensemble")


if __name__ == "__main__":
    main()
