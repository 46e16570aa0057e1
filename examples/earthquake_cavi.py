"""Earthquakes by coordinate ascent: planted epicentres come back, in the plane and by distance."""

import math
from itertools import permutations

import numpy as np
import torch
from _picture import BLUE, DEPTH, GREEN, GREY, INK, ORANGE, PURPLE, RED, headline, panels, save
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from torch import Generator, Tensor

from trustml.bayes import cavi_poisson_log_normal, cavi_poisson_normal
from trustml.bayes.cavi_poisson_normal import Prior, Sources
from trustml.bayes.coordinate_ascent import Ascent

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED)
CENTRES = torch.tensor([[-6.0, 3.0], [1.0, 6.0], [6.0, -1.0], [-1.0, -5.0], [0.5, 0.5]])
STRENGTHS = torch.tensor([3.0, 8.0, 15.0, 24.0, 36.0])
FAR, FAR_STRENGTHS, FAR_SPREAD = torch.tensor([12.0, 45.0, 160.0]), STRENGTHS[:3], 0.25


def events(generator: Generator) -> tuple[Tensor, Tensor]:
    z = torch.randint(0, len(CENTRES), (500,), generator=generator)
    x = CENTRES[z] + 1.3 * torch.randn(500, 2, generator=generator)
    return x, torch.poisson(STRENGTHS[z], generator=generator)


def distances(generator: Generator) -> tuple[Tensor, Tensor]:
    z = torch.randint(0, len(FAR), (400,), generator=generator)
    r = (FAR[z].log() + FAR_SPREAD * torch.randn(400, generator=generator)).exp()
    return r, torch.poisson(FAR_STRENGTHS[z], generator=generator)


def ordered(planted: Tensor, found: Tensor) -> list[int]:
    """Return which found source is each planted one: the assignment of least distance."""
    apart = torch.cdist(planted.double(), found)
    rows = range(len(planted))
    return list(min(permutations(rows), key=lambda p: sum(apart[i, p[i]] for i in rows).item()))


def map_of(axis: Axes, x: Tensor, s: Tensor, ascent: Ascent[Sources], order: list[int]) -> None:
    line = torch.linspace(-11, 11, 221)
    grid = torch.cartesian_prod(line, line)
    density = sum(
        cavi_poisson_normal.log_density(ascent.belief, grid, torch.full((len(grid),), count)).exp()
        for count in torch.arange(0.0, 80.0)
    )
    image = density.view(221, 221).T.sqrt().numpy()
    axis.imshow(image, extent=(-11, 11, -11, 11), origin="lower", cmap=DEPTH, alpha=0.35)
    belongs = ascent.responsibilities.argmax(1)
    for k, source in enumerate(order):
        mine = belongs == source
        axis.scatter(*x[mine].T, s=4 + s[mine], color=COLOURS[k], alpha=0.55, linewidths=0)
        mean, deviation = ascent.belief.mean[source], ascent.belief.variance[source].sqrt()
        axis.add_patch(
            Circle(mean.tolist(), 3 * deviation.item(), fill=False, color=INK, linewidth=1.2)
        )
    axis.plot(*CENTRES.T, "x", color=INK, markersize=9, markeredgewidth=2)
    axis.set_title("500 shocks in the plane, 5 epicentres")
    axis.set_aspect("equal")
    axis.set_xlim(-10.5, 10.5)
    axis.set_ylim(-10.5, 10.5)
    axis.set_xlabel("east, km", color=GREY)
    axis.set_ylabel("north, km", color=GREY)


def station(axis: Axes, r: Tensor, s: Tensor, ascent: Ascent[Sources], order: list[int]) -> None:
    belongs = ascent.responsibilities.argmax(1)
    for k, source in enumerate(order):
        mine = belongs == source
        axis.scatter(r[mine], s[mine], s=12, color=COLOURS[k], alpha=0.6, linewidths=0)
        median = ascent.belief.mean[source, 0].exp().item()
        axis.plot(median, ascent.belief.strength[source], "o", color=COLOURS[k], markersize=9,
                  markeredgecolor="white", markeredgewidth=1.5)  # fmt: skip
    axis.plot(FAR, FAR_STRENGTHS, "x", color=INK, markersize=9, markeredgewidth=2)
    axis.set_xscale("log")
    axis.set_xticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    axis.set_title("400 shocks heard at one station, 3 sources")
    axis.set_xlabel("distance, km", color=GREY)
    axis.set_ylabel("strength", color=GREY)


def climb(axis: Axes, ascents: dict[str, Ascent[Sources]]) -> None:
    for (name, ascent), colour in zip(ascents.items(), (BLUE, ORANGE), strict=True):
        below = ascent.elbo[-1] - np.array(ascent.elbo[:-1])
        axis.semilogy(range(1, len(ascent.elbo)), below, "o-", color=colour, markersize=3.5,
                      label=name)  # fmt: skip
        assert (np.diff(ascent.elbo) >= -1e-8).all()
    axis.set_title("the ELBO rises with every sweep")
    axis.set_xlabel("sweep", color=GREY)
    axis.set_ylabel("nats below the end", color=GREY)
    axis.legend(loc="upper right")


def main() -> None:
    generator = torch.Generator().manual_seed(5)
    x, s = events(generator)
    plane = cavi_poisson_normal.fit(x, s, components=5, spread=1.3)
    order = ordered(CENTRES, plane.belief.mean)
    apart = (plane.belief.mean[order] - CENTRES).norm(dim=1)
    assert apart.max() < 5 * 1.3 * math.sqrt(2 / 100)
    error = (plane.belief.strength[order] - STRENGTHS) / (STRENGTHS / 100).sqrt()
    assert error.abs().max() < 5

    r, counts = distances(generator)
    line = cavi_poisson_log_normal.fit(
        r, counts, components=3, spread=FAR_SPREAD, prior=Prior(centre=3.0, centre_spread=3.0)
    )
    along = ordered(FAR.log()[:, None], line.belief.mean)
    assert (line.belief.mean[along, 0].exp() / FAR - 1).abs().max() < 0.15

    figure, axes = panels(1, 3, (13.2, 5.4))
    map_of(axes[0], x, s, plane, order)
    station(axes[1], r, counts, line, along)
    climb(axes[2], {"plane": plane, "distance": line})
    headline(
        figure,
        "Epicentres from shocks alone",
        "Each shock has a Poisson strength and a Normal position, or a log-Normal distance; which "
        "source it came from is not known. Crosses: the planted sources. Rings and large dots: "
        "where coordinate ascent puts them (rings at 3 standard deviations). Colour: the likeliest "
        f"source. Largest error in the plane: {apart.max():.2f} km.",
    )
    save(figure, "earthquake_cavi")


if __name__ == "__main__":
    main()
