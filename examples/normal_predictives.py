"""Three Normal predictives as data arrive: only the Bayesian one starts wide and narrows."""

import math

import numpy as np
from _picture import BLUE, GREEN, GREY, ORANGE, headline, panels, save

from trustml.bayes import conjugate
from trustml.bayes.conjugate import Normal

DATA = [3.3, 3.5, 3.1, 1.8, 3.0, 0.74, 2.5, 2.4, 1.6, 2.1, 2.4, 1.3, 1.7, 0.19]
PRIOR, NOISE = Normal(0, 5), 1.0
GRID = np.linspace(-5, 8, 400)


def density(belief: Normal) -> np.ndarray:
    return np.array([math.exp(belief.log_density(x)) for x in GRID])


def main() -> None:
    figure, axes = panels(3, 5, (12, 6.6), sharex=True, sharey=True)
    width_before = math.inf
    for count, axis in enumerate(axes):
        seen = DATA[:count]
        posterior = conjugate.normal_normal(PRIOR, seen, NOISE)
        bayes = conjugate.normal_predictive(posterior, NOISE)
        axis.fill_between(GRID, density(bayes), color=BLUE, alpha=0.18, linewidth=0)
        axis.plot(GRID, density(bayes), color=BLUE, label="Bayes  N(μₙ, σₙ² + σ²)")
        plug_in = conjugate.normal_map_predictive(PRIOR, seen, NOISE)
        axis.plot(GRID, density(plug_in), color=GREEN, linestyle="--", label="MAP  N(μₙ, σ²)")
        if seen:
            likely = conjugate.normal_mle_predictive(seen, NOISE)
            axis.plot(GRID, density(likely), color=ORANGE, linestyle=":", label="MLE  N(x̄, σ²)")
            evidence = math.exp(conjugate.normal_log_evidence(PRIOR, seen, NOISE))
            axis.set_title(f"n = {count}", loc="left")
            axis.set_title(
                f"p(D) = {evidence:.2g}", loc="right", color=GREY, fontsize=8, weight=400
            )
            axis.plot(seen, [-0.02] * count, "|", color="#1f2933", markersize=8)
        else:
            axis.set_title("n = 0, prior only", loc="left")
        assert NOISE < bayes.variance < width_before
        width_before = bayes.variance
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.set_ylim(-0.045, 0.45)
        axis.set_xticks([-4, 0, 4, 8])
    figure.legend(*axes[1].get_legend_handles_labels(), loc="upper right", ncols=3, fontsize=9)
    assert f"{evidence:.4e}" == "4.4629e-10"
    headline(
        figure,
        "A predictive that knows how little it has seen",
        "Plug-in predictives have the noise's width from the first datum on. The Bayesian one adds "
        "what is not known of the mean, σₙ², which shrinks with every datum (ticks). p(D) is the "
        "marginal likelihood under the prior μ ~ N(0, 5); the noise is σ² = 1.",
    )
    save(figure, "normal_predictives")


if __name__ == "__main__":
    main()
