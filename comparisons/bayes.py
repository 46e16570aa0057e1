"""Bayesian parts beside their peers, interleaved in one run: python comparisons/bayes.py [ROUNDS].

CAVI of Gaussians against scikit-learn's BayesianGaussianMixture (the same model, start and number
of sweeps), and the last-layer Laplace predictive against laplace-torch where that is installed (the
same layer). The largest difference of the answers stands beside the times.
"""

import copy
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.mixture import BayesianGaussianMixture
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trustml.bayes import cavi_gaussian, laplace
from trustml.bayes.coordinate_ascent import Climb

POINTS, COMPONENTS, SWEEPS = 10_000, 10, 50
INPUTS, FEATURES, CLASSES, BATCH = 10_000, 128, 10, 500


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(
    ours: Callable[[], float], theirs: Callable[[], float], rounds: int
) -> tuple[float, float, list[float]]:
    """Return the median seconds of both, and the ratio ours/theirs of every round."""
    pairs = [(ours(), theirs()) for _ in range(rounds + 1)][1:]  # the first one warms up
    mine, others = (statistics.median(column) for column in zip(*pairs, strict=True))
    return mine, others, [a / b for a, b in pairs]


def line(name: str, result: tuple[float, float, list[float]], aim: str, note: str = "") -> None:
    """Print one row of the table."""
    mine, others, ratios = result
    spread = f"{statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})"
    print(f"| {name} | {mine * 1e3:.2f} ms | {others * 1e3:.2f} ms | {spread} | {aim} | {note} |")


def cavi(rounds: int) -> None:
    """Time one sweep: the difference between long and short runs, so that set-up is not counted."""
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.rand(COMPONENTS, 2, generator=generator, dtype=torch.float64) - 10
    z = torch.randint(0, COMPONENTS, (POINTS,), generator=generator)
    x = centres[z] + torch.randn(POINTS, 2, generator=generator, dtype=torch.float64)
    array = x.numpy()

    def peer(sweeps: int) -> BayesianGaussianMixture:
        return BayesianGaussianMixture(
            n_components=COMPONENTS, max_iter=sweeps, tol=0.0, reg_covar=0.0, random_state=0,
            init_params="random", weight_concentration_prior_type="dirichlet_distribution",
        )  # fmt: skip

    start = torch.from_numpy(np.random.RandomState(0).uniform(size=(POINTS, COMPONENTS)))

    def ours() -> float:
        runs = [
            seconds(
                lambda n=n: cavi_gaussian.fit(
                    x, components=COMPONENTS, start=start, climb=Climb(n, 0.0, 1)
                )
            )
            for n in (2, 2 + SWEEPS)
        ]
        return (runs[1] - runs[0]) / SWEEPS

    def theirs() -> float:
        runs = [seconds(lambda n=n: peer(n).fit(array)) for n in (2, 2 + SWEEPS)]
        return (runs[1] - runs[0]) / SWEEPS

    # Its n sweeps end on the parameters' half of a sweep, so they are n + 1 of those here.
    mine = cavi_gaussian.fit(x, components=COMPONENTS, start=start, climb=Climb(31, 0.0, 1))
    other = peer(30).fit(array)
    apart = np.abs(mine.belief.mean.numpy() - other.means_).max()
    name = f"CAVI, one sweep, {POINTS:,} points, K = {COMPONENTS}; scikit-learn"
    line(name, interleaved(ours, theirs, rounds), "≤ 1", f"means differ by {apart:.0e}")


def last_layer(rounds: int) -> None:
    """Time the probit predictive of one trained layer."""
    try:
        from laplace import Laplace
    except ImportError as error:
        print(f"| last-layer Laplace | | | | ≤ 0.01 | not timed: laplace-torch: {error} |")
        return
    torch.manual_seed(0)
    x, y = torch.randn(3000, FEATURES).relu(), torch.randint(0, CLASSES, (3000,))
    asked, head = torch.randn(INPUTS, FEATURES).relu(), nn.Linear(FEATURES, CLASSES)

    def fitted(precision: torch.dtype) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        features, questions = x.to(precision), asked.to(precision)
        network = nn.Sequential(nn.Identity(), copy.deepcopy(head).to(precision))
        peer = Laplace(
            network, "classification", "last_layer", "kron", prior_precision=1.0,
            last_layer_name="1",
        )  # fmt: skip
        peer.fit(DataLoader(TensorDataset(features, y), batch_size=BATCH))
        layer = laplace.fit_last_layer(
            features, network[1].weight, network[1].bias, bias_block="separate", prior_precision=1.0
        )
        parts = questions.split(BATCH)
        return (
            lambda: laplace.predict(layer, questions, link="probit"),
            lambda: torch.cat([peer(part, link_approx="probit") for part in parts]),
        )

    ours, theirs = fitted(torch.float32)
    exact, peers_exact = (answer() for answer in fitted(torch.float64))
    rounded = (ours() - exact).abs().max().item(), (theirs() - exact).abs().max().item()
    note = (
        f"probabilities differ by {(exact - peers_exact).abs().max().item():.0e} in float64; "
        f"float32 off by {rounded[0]:.0e} here, {rounded[1]:.0e} there"
    )
    result = interleaved(lambda: seconds(ours), lambda: seconds(theirs), rounds)
    name = f"Laplace predictive, {INPUTS:,} inputs, {CLASSES} classes; laplace-torch"
    line(name, result, "≤ 0.01", note)


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # the peers': not converged in so few sweeps, deprecated calls
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds\n")
    print("| work; peer | trustml | peer | ratio (range) | aim | |\n|---|---|---|---|---|---|")
    cavi(rounds)
    last_layer(rounds)


if __name__ == "__main__":
    main()
