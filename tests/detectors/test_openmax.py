"""OpenMax: its Weibull fit against scipy, its algorithm step by step."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import gumbel_l, weibull_min

from trustml.detectors._weibull import fit_weibulls
from trustml.detectors.openmax import openmax
from trustml.errors import BadOption


def test_the_fit_against_scipy() -> None:
    """Scipy's maximum likelihood of the same shifted tail, by its own optimiser."""
    tail = torch.rand(30, generator=torch.Generator().manual_seed(2)).double() * 3 + 5
    fit = fit_weibulls([tail])
    shifted = (tail - fit.start).numpy()
    with np.errstate(over="ignore"):  # scipy's search tries shapes that are far too great
        shape, _, scale = weibull_min.fit(shifted, float(fit.shape), floc=0, scale=float(fit.scale))
    assert weibull_min.nnlf((float(fit.shape), 0, float(fit.scale)), shifted) <= (
        weibull_min.nnlf((shape, 0, scale), shifted) + 1e-6
    )
    at = torch.linspace(4, 9, 11).double()
    expected = weibull_min.cdf((at - fit.start).numpy(), float(fit.shape), 0, float(fit.scale))
    assert np.allclose(fit.cdf(at[:, None])[:, 0].numpy(), expected, rtol=1e-6)


def test_the_fit_is_a_double_exponential_s() -> None:
    """So far from 0 a Weibull distribution is one, whose fit scipy has too."""
    tail = torch.rand(30, generator=torch.Generator().manual_seed(2)).double() * 3 + 5
    at = torch.linspace(4, 9, 11).double()
    expected = gumbel_l(*gumbel_l.fit(tail.numpy())).cdf(at.numpy())
    assert np.allclose(fit_weibulls([tail]).cdf(at[:, None])[:, 0].numpy(), expected, atol=2e-3)


def test_equal_distances_and_none() -> None:
    """A tail of one distance is a step there; a class without a tail is never known."""
    fit = fit_weibulls([torch.full((4,), 2.0).double(), torch.empty(0).double()])
    assert bool(fit.cdf(torch.tensor([[1.9, 0.0]]).double())[0, 0] < 1e-3)
    assert bool(fit.cdf(torch.tensor([[2.1, 0.0]]).double())[0, 0] > 1 - 1e-3)
    assert float(fit.cdf(torch.tensor([[1.0, 0.0]]).double())[0, 1]) == 1


def test_the_algorithm_step_by_step(model, made) -> None:
    """Means, tails, weights and revised logits as the paper writes them, one sample at a time."""
    train, test = made(400), made(12, seed=2)
    logits, right = train.logits.double(), train.logits.argmax(1) == train.y
    centres, tails = [], []
    for label in range(4):
        own = logits[right & (train.y == label)]
        centres.append(own.mean(0))
        tails.append((own - centres[-1]).norm(dim=1).sort().values[-20:])
    fits = [fit_weibulls([tail]) for tail in tails]
    scores = openmax(model, train, train, revised=3)(test)
    for row, score in zip(test.logits.double(), scores, strict=True):
        weights = [1.0] * 4
        for rank, label in enumerate(row.argsort(descending=True)[:3].tolist()):
            distance = (row - centres[label]).norm()
            weights[label] = 1 - (3 - rank) / 3 * float(fits[label].cdf(distance[None, None]))
        revised = [float(v) * w for v, w in zip(row, weights, strict=True)]
        unknown = sum(float(v) * (1 - w) for v, w in zip(row, weights, strict=True))
        total = sum(math.exp(v) for v in (unknown, *revised))
        assert float(score) == pytest.approx(math.exp(unknown) / total, rel=1e-6)


def test_far_out_is_unknown(model, made) -> None:
    """Far from every class all logits are lost; near the middle of one none is."""
    train = made(400)
    middle = train.logits[train.y == 0].mean(0, keepdim=True)
    test = replace(made(2), logits=torch.cat([middle, middle + 50]))
    near, far = openmax(model, train, train)(test).tolist()
    assert far > 0.99
    assert near < 0.5


def test_a_class_that_is_never_right_is_unknown(model, made) -> None:
    train = made(400)
    train = replace(train, y=torch.where(train.y == 2, 3, train.y))
    sure = replace(made(1), logits=torch.tensor([[0.0, 0.0, 30.0, 0.0]]))
    assert float(openmax(model, train, train)(sure)) > 0.99


@pytest.mark.parametrize("options", [{"tail": 2}, {"revised": 0}])
def test_options_out_of_range(options, model, made) -> None:
    with pytest.raises(BadOption, match="openmax"):
        openmax(model, made(), made(), **options)
