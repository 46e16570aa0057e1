"""Mixture of strengths and positions: exact evidence, enumeration, planted epicentres."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from trustml.bayes import cavi_poisson_log_normal, cavi_poisson_normal
from trustml.bayes.cavi_poisson_normal import Prior, Sources
from trustml.bayes.coordinate_ascent import Climb
from trustml.errors import BadInput, BadOption

PRIOR = Prior(shape=2.0, rate=0.5, centre=0.3, centre_spread=3.0)


def _events(count: int, seed: int, components: int = 2, axes: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randint(0, components, (count,), generator=generator)
    centres = 6 * torch.randn(components, axes, generator=generator, dtype=torch.float64)
    x = centres[z] + torch.randn(count, axes, generator=generator, dtype=torch.float64)
    return x, torch.poisson(2.0 + 6 * z, generator=generator).double()


def _evidence_of_one(x: np.ndarray, s: np.ndarray, spread: float) -> float:
    """Return log p(x, s) of one component: scipy's Normal, and Gamma-Poisson by the chain rule."""
    total, shape, rate = 0.0, PRIOR.shape, PRIOR.rate
    for count in s:  # each count given those before is negative binomial
        total += stats.nbinom(shape, rate / (rate + 1)).logpmf(count)
        shape, rate = shape + count, rate + 1
    if not len(x):
        return total
    covariance = spread**2 * np.eye(len(x)) + PRIOR.centre_spread**2
    joint = stats.multivariate_normal([PRIOR.centre] * len(x), covariance)
    return total + sum(joint.logpdf(axis) for axis in x.T)


def test_one_component_reaches_the_exact_evidence() -> None:
    """With K = 1 the belief holds the true posterior, so the bound is tight."""
    x, s = _events(30, 0)
    ascent = cavi_poisson_normal.fit(x, s, components=1, spread=1.3, prior=PRIOR)
    exact = _evidence_of_one(x.numpy(), s.numpy(), 1.3)
    assert ascent.elbo[-1] == pytest.approx(exact, rel=1e-12)
    assert ascent.converged


@pytest.mark.parametrize("seed", range(4))
def test_elbo_is_below_the_evidence_by_enumeration(seed: int) -> None:
    """N = 6, K = 2: the evidence sums over all 64 assignments, each of probability 2⁻⁶."""
    x, s = _events(6, seed)
    terms = [
        sum(
            _evidence_of_one(x.numpy()[chosen], s.numpy()[chosen], 1.0)
            for chosen in (np.array(z) == 0, np.array(z) == 1)
        )
        for z in itertools.product((0, 1), repeat=6)
    ]
    exact = float(np.logaddexp.reduce(terms)) - 6 * math.log(2)
    reached = cavi_poisson_normal.fit(x, s, components=2, spread=1.0, prior=PRIOR).elbo[-1]
    assert exact - 2 < reached < exact


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 3), st.floats(0.1, 10))
def test_the_elbo_never_falls(seed: int, components: int, axes: int, spread: float) -> None:
    x, s = _events(40, seed, components, axes)
    ascent = cavi_poisson_normal.fit(
        x + 1e4, s, components=components, spread=spread, seed=seed, climb=Climb(restarts=1)
    )
    steps = np.diff(ascent.elbo)
    assert (steps >= -1e-9 * (1 + np.abs(ascent.elbo[1:]))).all()
    assert torch.allclose(ascent.responsibilities.sum(1), torch.ones(40).double())


def test_planted_epicentres_come_back() -> None:
    """Five sources of 200 events: each within five standard errors, strengths too."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.tensor([[0, 0], [8, 0], [0, 8], [8, 8], [4, 15]], dtype=torch.float64)
    rates = torch.tensor([1.0, 4.0, 9.0, 16.0, 25.0])
    z = torch.arange(1000) % 5
    x = centres[z] + torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    s = torch.poisson(rates[z], generator=generator)
    found = cavi_poisson_normal.fit(x, s, components=5, spread=1.0).belief
    order = torch.cdist(centres, found.mean).argmin(1)
    assert len(set(order.tolist())) == 5
    assert (found.mean[order] - centres).abs().max() < 5 / math.sqrt(200)
    error = (found.strength[order] - rates) / (rates / 200).sqrt()
    assert error.abs().max() < 5


def test_strengths_alone_can_tell_sources_apart() -> None:
    """Two sources in one place: only the counts, 2 against 30, separate them."""
    generator = torch.Generator().manual_seed(2)
    z = torch.arange(200) % 2
    x = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    s = torch.poisson(2.0 + 28 * z, generator=generator)
    ascent = cavi_poisson_normal.fit(x, s, components=2, spread=1.0)
    same = (ascent.responsibilities.argmax(1) == z).double().mean().item()
    assert max(same, 1 - same) > 0.99


def test_log_density_is_scipys_mixture() -> None:
    """Normal by negative binomial, weighted 1/K."""
    sources = Sources(
        torch.tensor([2.0, 9.0]).double(),
        torch.tensor([1.0, 3.0]).double(),
        torch.tensor([[0.0, 1.0], [4.0, 4.0]]).double(),
        torch.tensor([0.1, 0.5]).double(),
        0.7,
    )
    x, s = _events(5, 3)
    expected = np.zeros(5)
    for a, b, mean, variance in zip(
        sources.shape, sources.rate, sources.mean, sources.variance, strict=True
    ):
        place = stats.multivariate_normal(mean, (0.49 + variance.item()) * np.eye(2)).pdf(x)
        expected += 0.5 * place * stats.nbinom(a.item(), (b / (b + 1)).item()).pmf(s)
    ours = cavi_poisson_normal.log_density(sources, x, s)
    assert np.allclose(ours, np.log(expected), rtol=1e-9)


def test_log_normal_distances_are_normal_logarithms() -> None:
    """Same belief on ln R; densities differ by the Jacobian 1/R; the density integrates to 1."""
    x, s = _events(60, 4, axes=1)
    distances = (x[:, 0] / 4).exp()
    ascent = cavi_poisson_log_normal.fit(distances, s, components=2, spread=0.4)
    normal = cavi_poisson_normal.fit(distances.log(), s, components=2, spread=0.4)
    assert torch.equal(ascent.belief.mean, normal.belief.mean)
    assert ascent.elbo[-1] == pytest.approx(normal.elbo[-1] - distances.log().sum().item())
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64).exp()
    mass = sum(
        torch.trapezoid(
            cavi_poisson_log_normal.log_density(
                ascent.belief, grid, torch.full((4001,), float(count))
            ).exp(),
            grid,
        ).item()
        for count in range(80)
    )
    assert mass == pytest.approx(1, abs=1e-3)


def test_one_log_normal_component_reaches_the_exact_evidence() -> None:
    x, s = _events(20, 5, axes=1)
    distances = (x[:, 0] / 4).exp()
    reached = cavi_poisson_log_normal.fit(distances, s, components=1, spread=0.9, prior=PRIOR).elbo[
        -1
    ]
    logarithms = distances.log().numpy()
    exact = _evidence_of_one(logarithms[:, None], s.numpy(), 0.9) - logarithms.sum()
    assert reached == pytest.approx(exact, rel=1e-12)


def test_equal_seeds_give_equal_answers_and_repeated_points_are_fine() -> None:
    x, s = torch.ones(10, 2), torch.ones(10)
    first = cavi_poisson_normal.fit(x, s, components=3, spread=1.0)
    again = cavi_poisson_normal.fit(x, s, components=3, spread=1.0)
    assert torch.equal(first.belief.mean, again.belief.mean)
    assert bool(first.belief.mean.isfinite().all())


def test_bad_input() -> None:
    x, s = _events(10, 0)
    fit = cavi_poisson_normal.fit
    with pytest.raises(BadInput, match="11 components for 10 points"):
        fit(x, s, components=11, spread=1.0)
    with pytest.raises(BadOption, match="components=0"):
        fit(x, s, components=0, spread=1.0)
    with pytest.raises(BadInput, match="N at least 1"):
        fit(x[:0], s[:0], components=1, spread=1.0)
    with pytest.raises(BadInput, match="NaN"):
        fit(x * math.nan, s, components=1, spread=1.0)
    for wrong in (s - 100, s + 0.5, s * math.nan, s * math.inf):
        with pytest.raises(BadInput, match="counts"):
            fit(x, wrong, components=1, spread=1.0)
    with pytest.raises(BadInput, match="one for each"):
        fit(x, s[:3], components=1, spread=1.0)
    for number in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(BadOption, match="spread"):
            fit(x, s, components=1, spread=number)
        for name in ("shape", "rate", "centre_spread"):
            with pytest.raises(BadOption, match=name):
                Prior(**{name: number})
    with pytest.raises(BadOption, match="sweeps"):
        Climb(sweeps=0)
    with pytest.raises(BadOption, match="tolerance"):
        Climb(tolerance=math.nan)
    with pytest.raises(BadInput, match="above 0"):
        cavi_poisson_log_normal.fit(x[:, 0], s, components=1, spread=1.0)
    belief = fit(x, s, components=1, spread=1.0).belief
    with pytest.raises(BadInput, match="axes"):
        cavi_poisson_normal.log_density(belief, x[:, :1], s)
