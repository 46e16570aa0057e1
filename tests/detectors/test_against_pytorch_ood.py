"""The same scores as pytorch-ood 0.4 on the same outputs, where the two mean the same."""

import warnings
from typing import Any

import pytest
import torch

from trustml.contracts import Outputs
from trustml.registry import get

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peers = pytest.importorskip(
        "pytorch_ood.detector", reason="pytorch-ood is not installed: pip install 'trustml[peers]'"
    )


def ours(name: str, model: Any, train: Outputs, test: Outputs, **options: Any) -> torch.Tensor:
    return get("detector", name).function(model, train, train, **options)(test).double()


def same(score: torch.Tensor, peer: torch.Tensor) -> None:
    assert torch.allclose(score, peer.detach().double(), rtol=1e-5, atol=1e-5)


@pytest.fixture
def train(made) -> Outputs:
    return made(400)


@pytest.fixture
def test(made) -> Outputs:
    return made(60, seed=2)


def test_scores_of_logits(model, train, test) -> None:
    # Theirs is minus the probability, ours one minus it.
    same(ours("mcp", model, train, test) - 1, peers.MaxSoftmax.score(test.logits))
    same(ours("max_logit", model, train, test), peers.MaxLogit.score(test.logits))
    same(ours("entropy", model, train, test), peers.Entropy.score(test.logits))
    score = ours("energy", model, train, test, temperature=2.0)
    same(score, peers.EnergyBased.score(test.logits, t=2.0))
    peer = peers.KLMatching(None).fit_logits(train.logits, train.y)
    same(ours("kl_matching", model, train, test), peer.predict_logits(test.logits))


def test_scores_of_features(model, train, test) -> None:
    weight, bias = model.head.weight, model.head.bias
    peer = peers.KNN(None, k=7).fit_features(train.features, train.y)
    same(ours("knn", model, train, test, k=7), peer.predict_features(test.features))
    peer = peers.ViM(None, d=5, w=weight, b=bias).fit_features(train.features, train.y)
    same(ours("vim", model, train, test, dimensions=5), peer.predict_features(test.features))
    # Theirs multiplies features and pattern alike.
    peer = peers.SHE(None, model.head).fit_features(train.features, train.y)
    same(ours("she", model, train, test), peer.predict_features(test.features))


def test_mahalanobis(model, train, test) -> None:
    """Theirs sums outer products where ours takes their mean, and halves the plain distance."""
    features = test.features.double()
    peer = peers.Mahalanobis(None).fit_features(train.features, train.y)
    same(ours("mahalanobis", model, train, test), 2 * 400 * peer.predict_features(features.float()))
    peer = peers.RMD(None).fit_features(train.features, train.y)
    score = ours("relative_mahalanobis", model, train, test)
    assert torch.allclose(
        score, 400 * peer.predict_features(features.float()).double(), atol=1e-3, rtol=1e-4
    )


def test_gaussians(model, train, test) -> None:
    """Theirs adds a number to every variance, ours a share of the mean variance."""
    from pytorch_ood.detector.gmm import GMM

    variance = float(train.features.double().var(0, correction=0).mean())
    peer = GMM(None, reg=0.01 * variance).fit_features(train.features, train.y)
    score = ours("gaussian_features", model, train, test, shrinkage=0.01)
    same(score, peer.predict_features(test.features))


def test_gradnorm(model, train, test) -> None:
    """Theirs by a backward pass a sample, here through the head's weight alone."""
    peer = peers.GradNorm(model, param_filter=lambda name: name == "head.weight", temperature=2.0)
    same(ours("gradnorm", model, train, test, temperature=2.0), peer.predict(test.x))


def test_openmax(model, train, test) -> None:
    """Their fit stops where their optimiser does; ours is the maximum to the last digits."""
    right = train.logits.argmax(1) == train.y
    peer = peers.OpenMax(None, tailsize=20, alpha=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit_logits(train.logits[right], train.y[right])
        expected = peer.predict_logits(test.logits)
    score = ours("openmax", model, train, test, tail=20, revised=3)
    assert torch.allclose(score, expected.double(), atol=5e-3)


def test_front_ends(model, train, test) -> None:
    """Each with the energy after it."""
    maps = test.features.view(60, 12, 1, 1)

    def head(features: torch.Tensor) -> torch.Tensor:
        return model.head(features.flatten(1))

    def energy_after(name: str, **options: Any) -> torch.Tensor:
        changed = get("detector", name).function(model, train, train, **options)(test)
        return -changed.logits.double().logsumexp(1)

    for variant in ("s", "b", "p"):
        peer = peers.ASH(None, head, variant=f"ash-{variant}", percentile=0.65)
        same(energy_after("ash", variant=variant), peer.predict_feature_maps(maps))
    peer = peers.SCALE(None, head, percentile=0.85)
    same(energy_after("scale"), peer.predict_feature_maps(maps))
    peer = peers.ReAct(None, head, percentile=0.9).fit_feature_maps(train.features, train.y)
    same(energy_after("react"), peer.predict_feature_maps(maps))
    peer = peers.DICE(None, model.head.weight, model.head.bias, p=0.9)
    peer.fit_features(train.features, train.y)
    same(energy_after("dice"), peer.predict_features(test.features))


def test_odin(model, train, test) -> None:
    odin = get("detector", "odin").function
    changed = odin(model, train, train, temperature=100.0, epsilon=0.02)(test)
    peer = peers.ODIN(model, temperature=100.0, eps=0.02)
    same(-changed.logits.softmax(1).amax(1), peer.predict(test.x))
