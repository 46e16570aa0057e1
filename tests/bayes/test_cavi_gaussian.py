"""Mixture of unknown Gaussians: scikit-learn's fixed point, exact evidence, Student's t."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.mixture import BayesianGaussianMixture
from torch import Tensor

from trustml.bayes import cavi_gaussian
from trustml.bayes.cavi_gaussian import Prior
from trustml.bayes.coordinate_ascent import Climb
from trustml.errors import BadInput, BadOption


def _points(count: int, seed: int, components: int = 3, axes: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randint(0, components, (count,), generator=generator)
    centres = 5 * torch.randn(components, axes, generator=generator, dtype=torch.float64)
    shapes = torch.randn(components, axes, axes, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, axes, generator=generator, dtype=torch.float64)
    return centres[z] + (shapes[z] @ noise[:, :, None])[:, :, 0]


@pytest.mark.parametrize(("components", "axes"), [(4, 2), (3, 1), (3, 5)])
def test_scikit_learns_fixed_point_is_ours(components: int, axes: int) -> None:
    """From its converged responsibilities nothing moves: every parameter is the same."""
    x = _points(400, 0, axes=axes)
    theirs = BayesianGaussianMixture(
        n_components=components,
        reg_covar=0,
        tol=1e-14,
        max_iter=20_000,
        random_state=0,
        weight_concentration_prior_type="dirichlet_distribution",
    ).fit(x.numpy())
    start = torch.from_numpy(theirs.predict_proba(x.numpy()))
    ascent = cavi_gaussian.fit(x, components=components, start=start, climb=Climb(1))
    ours = ascent.belief
    assert np.allclose(ours.mean, theirs.means_, atol=1e-5)
    assert np.allclose(ours.covariance, theirs.covariances_, atol=1e-5)
    assert np.allclose(ours.concentration, theirs.weight_concentration_, atol=1e-4)
    assert np.allclose(ours.freedom, theirs.degrees_of_freedom_, atol=1e-4)
    assert np.allclose(ours.mean_strength, theirs.mean_precision_, atol=1e-4)
    assert np.allclose(ascent.responsibilities, start, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 3])
def test_one_component_reaches_the_exact_evidence(axes: int) -> None:
    """With K = 1 the bound is tight; the evidence is a product of Student's t, point by point."""
    x, prior = _points(25, 1, axes=axes), Prior(None, 0.5, axes + 1.5, 0.2, 1.4)
    exact, strength, freedom = 0.0, prior.mean_strength, prior.freedom
    mean, scatter = np.full(axes, prior.mean), prior.spread**2 * np.eye(axes)
    for point in x.numpy():
        degrees = freedom + 1 - axes
        spread = scatter * (1 + strength) / (strength * degrees)
        exact += stats.multivariate_t(mean, spread, degrees).logpdf(point)
        apart = point - mean
        scatter = scatter + strength / (strength + 1) * np.outer(apart, apart)
        mean = mean + apart / (strength + 1)
        strength, freedom = strength + 1, freedom + 1
    ascent = cavi_gaussian.fit(x, components=1, prior=prior)
    assert ascent.elbo[-1] == pytest.approx(exact, rel=1e-11)
    # And what is left after the last point is the predictive density of the next.
    spread = scatter * (1 + strength) / (strength * (freedom + 1 - axes))
    student = stats.multivariate_t(mean, spread, freedom + 1 - axes)
    fresh = _points(6, 2, axes=axes)
    assert np.allclose(cavi_gaussian.log_density(ascent.belief, fresh), student.logpdf(fresh))


def test_density_integrates_to_one() -> None:
    belief = cavi_gaussian.fit(_points(200, 3), components=3).belief
    grid = torch.linspace(-60, 60, 1201, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    mass = cavi_gaussian.log_density(belief, points).exp().sum().item() * 0.1**2
    assert mass == pytest.approx(1, abs=5e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 4))
def test_the_elbo_never_falls(seed: int, components: int, axes: int) -> None:
    x = _points(50, seed, components, axes)
    ascent = cavi_gaussian.fit(x, components=components, seed=seed, climb=Climb(200, restarts=1))
    assert (np.diff(ascent.elbo) >= -1e-9 * (1 + np.abs(ascent.elbo[1:]))).all()
    assert torch.allclose(ascent.responsibilities.sum(1), torch.ones(50).double())


def test_planted_gaussians_come_back_and_spare_components_empty() -> None:
    """Three well-separated blobs of 300 points, eight components, a sparse Dirichlet."""
    generator = torch.Generator().manual_seed(4)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], dtype=torch.float64)
    noise = torch.randn(900, 2, generator=generator, dtype=torch.float64)
    x = centres[torch.arange(900) % 3] + noise
    prior = Prior(concentration=1e-3, spread=1.0)
    ascent = cavi_gaussian.fit(x, components=8, prior=prior, climb=Climb(2000))
    large = ascent.belief.weights > 0.05
    assert int(large.sum()) == 3
    apart = torch.cdist(centres, ascent.belief.mean[large])
    assert apart.min(1).values.max() < 5 * math.sqrt(2 / 300)
    assert (ascent.belief.covariance[large] - torch.eye(2)).abs().max() < 0.4


def test_far_from_the_origin_is_no_different() -> None:
    """Positions of 1e6 and a spread of 1: the same answer, shifted."""
    x = _points(200, 5)
    near = cavi_gaussian.fit(x, components=3)
    far = cavi_gaussian.fit(x + 2.0**20, components=3)
    assert far.elbo[-1] == pytest.approx(near.elbo[-1], rel=1e-8)
    assert torch.allclose(far.belief.mean - 2.0**20, near.belief.mean, atol=1e-5)


def test_bad_input() -> None:
    x = _points(10, 0)
    with pytest.raises(BadInput, match="11 components for 10 points"):
        cavi_gaussian.fit(x, components=11)
    with pytest.raises(BadInput, match="subspace"):
        cavi_gaussian.fit(torch.stack([x[:, 0], x[:, 0]], dim=1), components=2)
    with pytest.raises(BadInput, match="subspace"):
        cavi_gaussian.fit(x[:1], components=1)
    flat = cavi_gaussian.fit(torch.ones(5, 2), components=2, prior=Prior(spread=1.0))
    assert bool(flat.belief.mean.isfinite().all())
    with pytest.raises(BadOption, match="freedom"):
        cavi_gaussian.fit(x, components=2, prior=Prior(freedom=1.0))
    for wrong in (0.0, -1.0, math.nan, math.inf):
        for name in ("concentration", "mean_strength", "freedom", "spread"):
            with pytest.raises(BadOption, match=name):
                Prior(**{name: wrong})
    with pytest.raises(BadInput, match="start"):
        cavi_gaussian.fit(x, components=2, start=torch.ones(10, 3))
    with pytest.raises(BadInput, match="NaN"):
        cavi_gaussian.fit(x * math.nan, components=2)
    belief = cavi_gaussian.fit(x, components=2).belief
    with pytest.raises(BadInput, match="axes"):
        cavi_gaussian.log_density(belief, x[:, :1])
