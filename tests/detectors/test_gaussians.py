"""Mahalanobis distances and class Gaussians against scikit-learn and scipy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.covariance import EmpiricalCovariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from trustml.detectors.gaussian_features import gaussian_features
from trustml.detectors.mahalanobis import mahalanobis
from trustml.detectors.relative_mahalanobis import relative_mahalanobis
from trustml.errors import NotApplicable

METHODS = (mahalanobis, relative_mahalanobis, gaussian_features)


def groups(outputs) -> list[np.ndarray]:
    features, y = outputs.features.double().numpy(), outputs.y.numpy()
    return [features[y == label] for label in np.unique(y)]


def per_class(outputs, test) -> np.ndarray:
    """Return scikit-learn's squared distances (K, B), residuals of all classes in one estimate."""
    residuals = np.concatenate([group - group.mean(0) for group in groups(outputs)])
    shared = EmpiricalCovariance(assume_centered=True).fit(residuals)
    x = test.features.double().numpy()
    return np.stack([shared.mahalanobis(x - group.mean(0)) for group in groups(outputs)])


def test_mahalanobis_against_scikit_learn(model, made) -> None:
    train, test = made(400), made(60, seed=2)
    score = mahalanobis(model, train, train)(test)
    expected = per_class(train, test).min(0)
    assert np.allclose(score.numpy(), expected, rtol=1e-6)
    # LDA's own shared covariance is another implementation of the same estimate.
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    lda.fit(train.features.double().numpy(), train.y.numpy())
    apart = test.features[0].double().numpy() - lda.means_
    distances = np.einsum("kd,de,ke->k", apart, np.linalg.inv(lda.covariance_), apart)
    assert float(score[0]) == pytest.approx(distances.min(), rel=1e-6)


def test_relative_mahalanobis_against_scikit_learn(model, made) -> None:
    train, test = made(400), made(60, seed=2)
    whole = EmpiricalCovariance().fit(train.features.double().numpy())
    background = whole.mahalanobis(test.features.double().numpy())
    score = relative_mahalanobis(model, train, train)(test)
    assert np.allclose(score.numpy(), per_class(train, test).min(0) - background, rtol=1e-6)


def test_class_gaussians_against_scipy(model, made) -> None:
    """Mixture weights are the classes' shares; shrinkage adds to every variance."""
    train, test = made(400), made(60, seed=2)
    everything = train.features.double().numpy()
    floor = 0.02 * everything.var(0).mean() * np.eye(everything.shape[1])
    parts = [
        np.log(len(group) / len(everything))
        + multivariate_normal(group.mean(0), np.cov(group.T, bias=True) + floor).logpdf(
            test.features.double().numpy()
        )
        for group in groups(train)
    ]
    score = gaussian_features(model, train, train, shrinkage=0.02)(test)
    assert np.allclose(score.numpy(), -logsumexp(parts, axis=0), rtol=1e-8)


def test_by_hand(model, made) -> None:
    """Classes at ±3 on one axis, variance 1 on each: (5, 2) is 2² + 2² from the nearer mean."""
    corner = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    features = torch.cat([corner + torch.tensor([3.0, 0]), corner - torch.tensor([3.0, 0])])
    y = torch.arange(8) // 4
    train = replace(made(8), features=features, y=y)
    test = replace(made(1), features=torch.tensor([[5.0, 2.0]]))
    assert float(mahalanobis(model, train, train)(test)) == pytest.approx(8)
    # About the whole: mean 0, variances 10 and 1.
    assert float(relative_mahalanobis(model, train, train)(test)) == pytest.approx(8 - 2.5 - 4)


@pytest.mark.parametrize("method", METHODS)
def test_features_that_never_vary_do_no_harm(method, model, made) -> None:
    train, test = made(400), made(60, seed=2)

    def wider(outputs):
        dead = torch.zeros(len(outputs.y), 3)
        twin = outputs.features[:, :1]
        return replace(outputs, features=torch.cat([outputs.features, dead, twin], 1))

    score = method(model, wider(train), wider(train))(wider(test))
    assert bool(score.isfinite().all())
    if method is mahalanobis:
        # The pseudo-inverse leaves the dead out, and a twin adds nothing that is not known.
        assert torch.allclose(score, method(model, train, train)(test), rtol=1e-4)


def test_mahalanobis_does_not_change_with_the_units_of_features(model, made) -> None:
    """Distances in a covariance are invariant under every invertible linear map."""
    train, test = made(400), made(60, seed=2)
    mix = torch.randn(12, 12, generator=torch.Generator().manual_seed(4)) + 3 * torch.eye(12)
    moved = [replace(each, features=each.features @ mix + 5) for each in (train, test)]
    score = mahalanobis(model, moved[0], moved[0])(moved[1])
    assert torch.allclose(score, mahalanobis(model, train, train)(test), rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_constant_features_are_refused(method, model, made) -> None:
    train = replace(made(), features=torch.ones(200, 3))
    with pytest.raises(NotApplicable, match="constant"):
        method(model, train, train)


def test_without_shrinkage_few_samples_are_refused(model, made) -> None:
    """Three samples a class cannot span twelve dimensions."""
    with pytest.raises(NotApplicable, match="shrinkage=0"):
        gaussian_features(model, made(12), made(12), shrinkage=0.0)


def test_a_class_without_training_samples_has_no_mean(model, made) -> None:
    train = made(400)
    kept = train.y != 1
    part = replace(
        train,
        features=train.features[kept],
        y=train.y[kept],
        logits=train.logits[kept],
        x=train.x[kept],
    )
    expected = per_class(part, train).min(0)
    assert np.allclose(mahalanobis(model, part, part)(train).numpy(), expected, rtol=1e-6)
