"""Beta prior to posterior: three beliefs about one coin meet the same throws and agree."""

import math

import numpy as np
from _picture import BLUE, GREEN, GREY, INK, ORANGE, headline, panels, save

from trustml.bayes.conjugate import Beta, beta_binomial, proportion_mle

PRIORS = {
    "knows nothing  Beta(1, 1)": (Beta(1, 1), BLUE),
    "thinks it fair  Beta(20, 20)": (Beta(20, 20), GREEN),
    "thinks it loaded  Beta(2, 8)": (Beta(2, 8), ORANGE),
}
THROWS = ((0, 0), (3, 4), (14, 20), (140, 200))
GRID = np.linspace(0.001, 0.999, 600)


def density(belief: Beta) -> np.ndarray:
    log_scale = math.lgamma(belief.alpha + belief.beta) - math.lgamma(belief.alpha)
    log_scale -= math.lgamma(belief.beta)
    rise = (belief.alpha - 1) * np.log(GRID) + (belief.beta - 1) * np.log(1 - GRID)
    return np.exp(log_scale + rise)


def main() -> None:
    figure, axes = panels(2, 2, (9.6, 6.2), sharex=True)
    spread = []
    for axis, (heads, throws) in zip(axes, THROWS, strict=True):
        means = []
        for row, (name, (prior, colour)) in enumerate(PRIORS.items()):
            posterior = beta_binomial(prior, heads, throws)
            low, high = posterior.interval()
            curve = density(posterior)
            axis.plot(GRID, curve, color=colour, label=name)
            axis.fill_between(GRID, curve, where=(low <= GRID) & (high >= GRID),
                              color=colour, alpha=0.13, linewidth=0)  # fmt: skip
            means.append(posterior.mean)
            if throws:
                axis.annotate(
                    f"mean {posterior.mean:.2f}   95 %: {low:.2f} to {high:.2f}",
                    (0.02, 0.9 - 0.09 * row), xycoords="axes fraction", color=colour, fontsize=8,
                )  # fmt: skip
        spread.append(max(means) - min(means))
        if throws:
            axis.axvline(proportion_mle(heads, throws), color=INK, linewidth=0.9, linestyle=":")
            axis.set_title(f"{heads} heads in {throws} throws")
        else:
            axis.set_title("before any throw")
            axis.legend(loc="upper right")
        axis.set_ylim(bottom=0)
        axis.set_xlim(0, 1)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
    for axis in axes[2:]:
        axis.set_xlabel("probability of heads", color=GREY)
    assert spread[-1] < spread[0] / 4
    headline(
        figure,
        "Different priors, one truth",
        "The posterior of heads is Beta(α + y, β + N − y). With data the three means draw "
        "together, towards the observed share (dotted). Shaded: the 95 % credible interval, which "
        "trustml prints beside every proportion.",
    )
    save(figure, "beta_posterior")


if __name__ == "__main__":
    main()
