"""Scores by nearest neighbours against scikit-learn and by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from trustml.contracts import Outputs
from trustml.detectors._neighbours import nearest, references
from trustml.detectors.knn import knn
from trustml.detectors.local_intrinsic_dimension import local_intrinsic_dimension
from trustml.detectors.trust_score import trust_score
from trustml.errors import BadOption, NotApplicable

METHODS = (knn, trust_score, local_intrinsic_dimension)


def of(features: torch.Tensor, y: torch.Tensor, answers: torch.Tensor) -> Outputs:
    logits = torch.nn.functional.one_hot(answers, 3).float()
    return Outputs(logits, features, features, y)


def unit(outputs: Outputs) -> np.ndarray:
    features = outputs.features.double().numpy()
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 7, 300])
def test_knn_against_scikit_learn(k: int, model, made) -> None:
    train, test = made(300), made(40, seed=2)
    distances, _ = NearestNeighbors(n_neighbors=k).fit(unit(train)).kneighbors(unit(test))
    score = knn(model, train, train, k=k)(test)
    assert np.allclose(score.numpy(), distances[:, -1], rtol=1e-5)


def test_near_copies_far_from_zero_are_told_apart() -> None:
    """‖x‖² - 2xr + ‖r‖² in float32 would be 0 or noise here; true distances are 0.001 to 0.01."""
    known = torch.zeros(10, 3) + torch.tensor([1000.0, 0, 0])
    known[:, 1] = torch.arange(1, 11) * 1e-3
    y = torch.zeros(10).long()
    train = of(known, y, y)
    found = nearest(torch.tensor([[1000.0, 0, 0]]), references(None, train, None), 10)[0]
    assert torch.allclose(found, torch.arange(1, 11) * 1e-3, rtol=1e-4)


def test_trust_score_against_scikit_learn(model, made) -> None:
    train, test = made(300), made(40, seed=2)
    answers = test.logits.argmax(1).numpy()
    x, test_x = train.features.double().numpy(), test.features.double().numpy()
    y = train.y.numpy()
    classes = np.unique(y)
    distances = np.stack(
        [
            NearestNeighbors(n_neighbors=1).fit(x[y == c]).kneighbors(test_x)[0][:, 0]
            for c in classes
        ]
    )
    own = distances[answers, np.arange(40)]
    distances[answers, np.arange(40)] = np.inf
    published = distances.min(0) / own
    score = trust_score(model, train, train)(test).numpy()
    assert np.allclose(score, 1 / (1 + published), rtol=1e-5)


def test_trust_score_by_hand(model) -> None:
    """Class 0 at 0, class 1 at 10; at 2, d = 2 and d' = 8 if answered 0, the reverse if 1."""
    train = of(torch.tensor([[0.0], [10.0]]), torch.tensor([0, 1]), torch.tensor([0, 1]))
    at = torch.tensor([[2.0], [2.0], [2.0], [0.0]])
    test = of(at, torch.zeros(4).long(), torch.tensor([0, 1, 2, 0]))
    # An answer that no training sample has is infinitely far; on top of one's own class it is 0.
    expected = torch.tensor([0.2, 0.8, 1.0, 0.0]).double()
    assert torch.allclose(trust_score(model, train, train)(test), expected)


def test_dimension_by_hand(model) -> None:
    """Distances 1, 2, 4: mean of log(1/4), log(1/2), log 1 is -log 2, so it is 1 / log 2."""
    known, y = torch.tensor([[1.0], [-2.0], [4.0]]), torch.tensor([0, 1, 2])
    train = of(known, y, y)
    test = of(torch.zeros(1, 1), y[:1], y[:1])
    score = local_intrinsic_dimension(model, train, train, k=3)(test)
    assert float(score) == pytest.approx(1 / math.log(2), rel=1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_dimension_of_a_cube(dimension: int, model) -> None:
    """Where points are spread evenly the estimator's mean is d k / (k - 1), whatever the space."""
    generator = torch.Generator().manual_seed(3)
    flat = torch.rand(20_000, dimension, generator=generator)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    y = torch.zeros(20_000).long()
    train = of(flat @ turn[:dimension], y, y)
    inside = (0.3 + 0.4 * torch.rand(500, dimension, generator=generator)) @ turn[:dimension]
    test = of(inside, y[:500], y[:500])
    scorer = local_intrinsic_dimension(model, train, train, k=20, samples=None)
    # Of the 20 the last is the yardstick, so 19 count: E = d 20 / 18.
    assert float(scorer(test).mean()) == pytest.approx(dimension * 20 / 18, rel=0.05)


def test_the_same_place_many_times(model) -> None:
    """No estimate is possible; no NaN may come of it."""
    y = torch.tensor([0, 1, 2] * 10)
    train = of(torch.zeros(30, 2), y, y)
    for method in METHODS:
        assert bool(method(model, train, train)(train).isfinite().all())
    score = local_intrinsic_dimension(model, train, train)(train)
    assert torch.equal(score, torch.zeros(30).double())


def test_the_order_of_training_samples_does_not_matter(model, made) -> None:
    train, test = made(300), made(40, seed=2)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(5))
    turned = replace(
        train, features=train.features[order], y=train.y[order], logits=train.logits[order]
    )
    for method in METHODS:
        score = method(model, turned, turned)(test)
        assert torch.allclose(score, method(model, train, train)(test), rtol=1e-5)


def test_fewer_samples_can_only_be_farther(model, made) -> None:
    train, test = made(2000), made(40, seed=2)
    whole = knn(model, train, train, samples=None)(test)
    part = knn(model, train, train, samples=300)(test)
    assert bool((part >= whole - 1e-6).all())
    assert float(part.mean()) > 1.05 * float(whole.mean())


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        (knn, {"k": 0}, "k=0 is not allowed: it must be from 1 to 200"),
        (knn, {"k": 201}, "k=201"),
        (knn, {"samples": 0}, "samples=0"),
        (local_intrinsic_dimension, {"k": 1}, "from 2"),
        (trust_score, {"samples": -1}, "samples=-1"),
    ],
)
def test_options_out_of_range(method, options, match, model, made) -> None:
    with pytest.raises(BadOption, match=match):
        method(model, made(), made(), **options)


def test_trust_needs_two_classes(model, made) -> None:
    train = replace(made(), y=torch.zeros(200).long())
    with pytest.raises(NotApplicable, match="one class"):
        trust_score(model, train, train)
