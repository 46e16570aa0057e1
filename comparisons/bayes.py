"""Bayesian parts beside their yardsticks, interleaved: python comparisons/bayes.py [ROUNDS].

MC dropout and a deep ensemble against forward passes of the same network; the last-layer Laplace
predictive against laplace-torch where that is installed (the same layer); CAVI of Gaussians against
scikit-learn's BayesianGaussianMixture (the same model, start and number of sweeps). Times are
processor time, the best of all rounds; the ratio is that of the best times, and behind it stands
the range over rounds. Where answers can be compared, their largest difference is given.
"""

import copy
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
from trustml.contracts import Domain
from trustml.models.bnn import bnn

POINTS, COMPONENTS, SWEEPS = 10_000, 10, 50
INPUTS, FEATURES, CLASSES, BATCH = 10_000, 128, 10, 500
DIGITS, DRAWS, MEMBERS = Domain((1, 28, 28), 10), 20, 5


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor time of one call: what others do on the machine is not counted."""
    started = time.process_time()
    work()
    return time.process_time() - started


def interleaved(
    ours: Callable[[], float], theirs: Callable[[], float], rounds: int
) -> tuple[float, float, list[float]]:
    """Return the least seconds of both, and the ratio ours/theirs of every round."""
    pairs = [(ours(), theirs()) for _ in range(rounds + 1)][1:]  # the first one warms up
    mine, others = (min(column) for column in zip(*pairs, strict=True))
    return mine, others, [a / b for a, b in pairs]


def line(name: str, result: tuple[float, float, list[float]], aim: str, note: str = "") -> None:
    """Print one row of the table."""
    mine, others, ratios = result
    spread = f"{mine / others:.4g} ({min(ratios):.4g} to {max(ratios):.4g})"
    print(f"| {name} | {mine * 1e3:.2f} ms | {others * 1e3:.2f} ms | {spread} | {aim} | {note} |")


@torch.no_grad()
def dropout(rounds: int) -> None:
    """Time draws that share what comes before the first dropout, against one pass without any."""
    x = torch.rand(512, *DIGITS.shape)
    one = bnn(DIGITS, body="cnn", draws=DRAWS).eval()
    result = interleaved(
        lambda: seconds(lambda: one(x)), lambda: seconds(lambda: one.network(x)), rounds
    )
    line(f"{DRAWS} MC-dropout draws, CNN, 512 inputs, last layer; one pass", result, "≤ 1.2")

    two = bnn(DIGITS, body="cnn:hidden=[128,64]", draws=DRAWS).eval()
    layers = [m for m in two.network.body.modules() if not list(m.children())]
    first = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Dropout))
    shared, rest = nn.Sequential(*layers[:first]), nn.Sequential(*layers[first:])
    middle = shared(x)
    two._before = ((),)  # so that it starts behind the shared part, which is timed above

    def theirs() -> float:
        return seconds(lambda: [rest(middle) for _ in range(DRAWS)])

    result = interleaved(lambda: seconds(lambda: two(middle)), theirs, rounds)
    name = f"the same, two dropouts, behind the shared part; {DRAWS} passes there"
    line(name, result, "≤ 1.05")


@torch.no_grad()
def ensemble(rounds: int) -> None:
    """Time all members against one."""
    x = torch.rand(512, *DIGITS.shape)
    module = bnn(DIGITS, posterior="ensemble", body="cnn", members=MEMBERS).eval()
    one = module.members[0]
    result = interleaved(
        lambda: seconds(lambda: module(x)), lambda: seconds(lambda: one(x)), rounds
    )
    line(f"ensemble of {MEMBERS} CNNs, 512 inputs; one pass", result, f"≤ {MEMBERS}.1")


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
    print("| work; yardstick | trustml | it | ratio (range) | aim | |\n|---|---|---|---|---|---|")
    for part in (dropout, last_layer, ensemble, cavi):
        part(rounds)


if __name__ == "__main__":
    main()
