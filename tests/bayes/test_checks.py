"""Bad numbers and tensors: each function of the room refuses them in one line, none says NaN."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from trustml.bayes import cavi_gaussian, cavi_poisson_log_normal, cavi_poisson_normal
from trustml.bayes import linear_regression as linear
from trustml.bayes import logistic_regression as logistic
from trustml.bayes.checks import finite_number
from trustml.bayes.conjugate import (
    Beta,
    Normal,
    beta_binomial,
    normal_log_evidence,
    normal_mle_predictive,
    normal_normal,
    normal_predictive,
)
from trustml.bayes.coordinate_ascent import Climb
from trustml.bayes.forward_mode import trace, worked_example
from trustml.bayes.gradient_estimators import DiagonalGaussian, elbo_gradients, smoothed_gradient
from trustml.bayes.laplace import fit_last_layer, log_evidence, predict
from trustml.bayes.reparameterisations import exponential, gaussian, gumbel_softmax
from trustml.bayes.variational import Conv2dVariational, LinearVariational, VariationalOptions
from trustml.errors import BadInput, UsageError

X = torch.linspace(-1, 1, 6)
PHI = linear.identity_basis(X)
LABELS = (X > 0).long()
ONES = torch.ones(6)
WEIGHTS = linear.fit(PHI, X, 1.0, 1.0)
LAYER = fit_last_layer(PHI, torch.eye(2).double(), torch.zeros(2), prior_precision=1.0)
BELIEF = DiagonalGaussian(torch.zeros(2), torch.zeros(2))

# What takes a number above 0.
POSITIVE: dict[str, Callable[[Any], object]] = {
    "alpha of a beta": lambda v: Beta(v, 1),
    "beta of a beta": lambda v: Beta(1, v),
    "noise variance": lambda v: normal_normal(Normal(), [1.0], v),
    "noise variance of a predictive": lambda v: normal_predictive(Normal(), v),
    "noise variance of an evidence": lambda v: normal_log_evidence(Normal(), [1.0], v),
    "alpha": lambda v: linear.fit(PHI, X, v, 1.0),
    "beta": lambda v: linear.fit(PHI, X, 1.0, v),
    "beta of an evidence": lambda v: linear.log_evidence(PHI, X, 1.0, v),
    "width": lambda v: linear.gaussian_basis(X, X, v),
    "alpha of labels": lambda v: logistic.fit(PHI, LABELS, alpha=v),
    "spread": lambda v: cavi_poisson_normal.fit(X, ONES, components=2, spread=v),
    "shape": lambda v: cavi_poisson_normal.Prior(shape=v),
    "rate": lambda v: cavi_poisson_normal.Prior(rate=v),
    "centre_spread": lambda v: cavi_poisson_normal.Prior(centre_spread=v),
    "concentration": lambda v: cavi_gaussian.Prior(concentration=v),
    "mean_strength": lambda v: cavi_gaussian.Prior(mean_strength=v),
    "freedom": lambda v: cavi_gaussian.Prior(freedom=v),
    "spread of a prior": lambda v: cavi_gaussian.Prior(spread=v),
    "temperature": lambda v: gumbel_softmax(torch.zeros(3), v),
    "scale": lambda v: smoothed_gradient(torch.ones(3, 1), torch.randn(3, 1, 2), v),
    "prior_scale": lambda v: VariationalOptions(prior_scale=v),
    "initial_scale": lambda v: VariationalOptions(initial_scale=v),
    "prior_precision": lambda v: fit_last_layer(
        PHI, torch.eye(2), torch.zeros(2), prior_precision=v
    ),
}
NO_NUMBERS = (math.nan, True, 1j, "1", torch.tensor(1.0), np.bool_(True), -math.inf, 10**400)


@pytest.mark.parametrize("name", POSITIVE)
def test_numbers_that_must_be_above_0(name: str) -> None:
    """Zero, negative, NaN, infinite, bool, complex, text, tensors: refused; a small one is not."""
    for value in (0.0, -1.0, 0, math.inf, *NO_NUMBERS):
        with pytest.raises(UsageError, match="above 0"):
            POSITIVE[name](value)
    assert POSITIVE[name](np.float64(0.5)) is not None


@pytest.mark.parametrize(
    "call",
    [
        lambda v: Normal(mean=v),
        lambda v: normal_normal(Normal(), [1.0, v], 1.0),
        lambda v: beta_binomial(Beta(), v, 10),
        lambda v: beta_binomial(Beta(), 0, v),
        lambda v: Beta().interval(v),
        lambda v: Beta().quantile(v),
        lambda v: Normal().interval(v),
        lambda v: Normal().log_density(v),
        lambda v: cavi_poisson_normal.Prior(centre=v),
        lambda v: cavi_gaussian.Prior(mean=v),
        lambda v: Climb(tolerance=v),
        lambda v: trace(worked_example, (v, 1.0), (1.0, 0.0)),
    ],
)
def test_numbers_that_must_be_finite(call: Callable[[Any], object]) -> None:
    """No bool, complex, text, tensor, NaN or infinity is a number."""
    for value in NO_NUMBERS:
        with pytest.raises(UsageError):
            call(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda v: linear.polynomial_basis(X, v),
        lambda v: cavi_poisson_normal.fit(X, ONES, components=v, spread=1.0),
        lambda v: cavi_gaussian.fit(X, components=v),
        lambda v: Climb(sweeps=v),
        lambda v: Climb(restarts=v),
        lambda v: LinearVariational(v, 2),
        lambda v: Conv2dVariational(1, v, 3),
        lambda v: predict(LAYER, PHI, link="monte_carlo", draws=v),
    ],
)
def test_counts_must_be_whole(call: Callable[[Any], object]) -> None:
    """Nor is a share, a bool or text a count."""
    for value in (0, -1, 1.5, *NO_NUMBERS[:-1]):
        with pytest.raises(UsageError, match="whole number"):
            call(value)


TENSORS: dict[str, Callable[[Any], object]] = {
    "identity": linear.identity_basis,
    "polynomial": lambda v: linear.polynomial_basis(v, 2),
    "gaussian": lambda v: linear.gaussian_basis(v, X, 1.0),
    "centres": lambda v: linear.gaussian_basis(X, v, 1.0),
    "design": lambda v: linear.fit(v, X, 1.0, 1.0),
    "targets": lambda v: linear.fit(PHI, v, 1.0, 1.0),
    "evidence": lambda v: linear.maximise_evidence(PHI, v),
    "asked": lambda v: linear.predict(WEIGHTS, v),
    "design of labels": lambda v: logistic.fit(v, LABELS),
    "labels": lambda v: logistic.fit(PHI, v),
    "positions": lambda v: cavi_poisson_normal.fit(v, ONES, components=2, spread=1.0),
    "strengths": lambda v: cavi_poisson_normal.fit(X, v, components=2, spread=1.0),
    "distances": lambda v: cavi_poisson_log_normal.fit(v, ONES, components=2, spread=1.0),
    "points": lambda v: cavi_gaussian.fit(v, components=2),
    "features": lambda v: fit_last_layer(v, torch.eye(2), torch.zeros(2)),
    "weight": lambda v: fit_last_layer(PHI, v, torch.zeros(2)),
    "features asked": lambda v: predict(LAYER, v),
    "features of an evidence": lambda v: log_evidence(LAYER, v, LABELS),
    "mean": lambda v: gaussian(v, ONES),
    "scale": lambda v: gaussian(X, v),
    "rate": exponential,
    "logits": lambda v: gumbel_softmax(v, 1.0),
    "values": lambda v: smoothed_gradient(v, torch.randn(6, 1, 1), 1.0),
    "noise": lambda v: elbo_gradients(lambda z: -z.square().sum(1), BELIEF, v),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_no_data(name: str) -> None:
    """Complex, NaN, infinite, of four axes, a list, an array: one line, no NaN or traceback."""
    wrong = [
        torch.complex(X, X), X * math.nan, PHI * math.nan, X / 0,
        torch.full((1, 2, 3, 4), math.nan), [1.0] * 6, X.numpy(), None,
    ]  # fmt: skip
    for value in wrong:
        with pytest.raises(BadInput):
            TENSORS[name](value)


@pytest.mark.parametrize("name", sorted(set(TENSORS) - {"rate", "asked", "features asked"}))
def test_no_data(name: str) -> None:
    """Nothing can be learnt from nothing."""
    with pytest.raises(BadInput):
        TENSORS[name](torch.zeros(0))


def test_values_whose_squares_overflow() -> None:
    """1e200 is finite, and its square is not: no posterior comes out of it."""
    huge = 1e200 * X.double()
    for call in (linear.identity_basis, lambda v: cavi_gaussian.fit(v, components=2)):
        with pytest.raises(BadInput, match="rescale"):
            call(huge)
    with pytest.raises(BadInput, match="too large"):
        normal_mle_predictive([1e308, 1e308], 1.0)


def test_coldest_draws_are_hot() -> None:
    """Far below float32's least number the soft draw is the arg max, with a finite gradient."""
    logits = torch.randn(50, 4, requires_grad=True)
    soft = gumbel_softmax(logits, 1e-300, straight_through=False)
    soft[:, 0].sum().backward()
    assert set(soft.detach().flatten().tolist()) == {0.0, 1.0}
    assert bool(logits.grad.isfinite().all())
    for none in (torch.tensor([math.inf, 0.0]), torch.tensor([-math.inf] * 2)):
        with pytest.raises(BadInput, match="logits"):
            gumbel_softmax(none, 1.0)
    assert gumbel_softmax(torch.tensor([-math.inf, 0.0]), 1.0).tolist() == [0.0, 1.0]


def test_shapes_that_do_not_fit() -> None:
    """Mean and scale broadcast or are refused; labels lie among the classes."""
    with pytest.raises(BadInput, match="no common shape"):
        gaussian(torch.zeros(3), torch.ones(4))
    for labels in (LABELS + 1, LABELS - 1, LABELS.float()):
        with pytest.raises(BadInput, match="labels"):
            log_evidence(LAYER, PHI, labels)
    for x in (3.0, "ab", torch.ones(2, 2), [[1.0]]):
        with pytest.raises(BadInput):
            normal_normal(Normal(), x, 1.0)


def test_what_a_number_is() -> None:
    """Python's, numpy's and exact ones; neither bool nor Decimal, which is no Real."""
    assert all(map(finite_number, (1, 1.5, np.float32(2), np.int64(3), Fraction(1, 3))))
    assert not any(map(finite_number, (*NO_NUMBERS, None, Decimal(1), math.inf)))


def test_extreme_beliefs_stay_numbers() -> None:
    """The moments of a beta distribution neither overflow nor divide by zero."""
    tiny, large = Beta(1e-300, 1e-300), Beta(1e200, 1e200)
    assert (tiny.mean, tiny.variance) == (0.5, 0.25)
    assert large.variance == pytest.approx(0.125e-200)
