"""Laplace over the last layer: at its own maximum, in closed form."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax

from trustml.bayes.laplace import fit_last_layer, log_evidence, predict
from trustml.contracts import Split, Training
from trustml.models._laplace_last_layer import LaplaceLastLayer, at_maximum
from trustml.training import fit

Fitted = tuple[LaplaceLastLayer, Split]


@pytest.fixture
def last_layer(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> Callable[[float | None], Fitted]:
    """Return what fits the posterior of a prior scale on 60 samples."""

    def fitted(prior_scale: float | None) -> Fitted:
        module = model("laplace_last_layer", prior_scale=prior_scale, temperature=1.0)
        train = samples()
        training = Training(epochs=10, learning_rate=0.01, batch_size=16)
        fit(module, train, samples(20, 1), training, 0)
        assert isinstance(module, LaplaceLastLayer)
        return module, train

    return fitted


@pytest.mark.parametrize("prior_scale", [None, 0.5])
def test_last_layer_is_at_the_maximum_of_its_own_prior(
    prior_scale: float | None, last_layer: Callable[[float | None], Fitted]
) -> None:
    """The penalised loss has no slope there; an asked prior is kept, else the evidence's stays."""
    module, train = last_layer(prior_scale)
    precision, head = float(module.precision), module.network.head
    loss = cross_entropy(module.network(train.x), train.y)
    square = head.weight.square().sum() + head.bias.square().sum()
    slopes = torch.autograd.grad(
        loss + precision / (2 * len(train)) * square, [head.weight, head.bias]
    )
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-5
    if prior_scale:
        assert precision == pytest.approx(4.0)
    else:
        h = module.features(train.x).detach()
        evidences = []
        for factor in (0.7, 1.0, 1.4):
            layer = at_maximum(head, h, train.y, factor * precision)
            evidences.append(log_evidence(layer, h, train.y))
        assert evidences[1] == max(evidences)
        assert 1e-3 < precision < 1e3


def test_last_layer_answers_in_closed_form(
    samples: Callable[..., Split], last_layer: Callable[[float | None], Fitted]
) -> None:
    """The belief in the buffers is that of the closed form; the answer is its contrasts' probit."""
    module, train = last_layer(0.5)
    h, head = module.features(train.x), module.network.head
    truth = fit_last_layer(h, head.weight, head.bias, prior_precision=4.0)
    x = samples(7, 3).x
    torch.testing.assert_close(module(x).exp(), predict(truth, module.features(x)))
    draws = module.sample_logits(x, 4000).detach()
    variances = truth.logit_variances(module.features(x)).detach()
    # A variance from 4000 Gaussian draws has a relative standard error of 2.2 %.
    assert float((draws.var(0) / variances - 1).abs().max()) < 0.12
    assert bool((draws.mean(0) - module.network(x)).abs().lt(5 * (variances / 4000).sqrt()).all())


def test_last_layer_temperature_scales_the_covariance(
    samples: Callable[..., Split], last_layer: Callable[[float | None], Fitted]
) -> None:
    """A quarter of the temperature halves how far each draw lies from the mean."""
    module, _ = last_layer(0.5)
    x = samples(7, 3).x
    mean = module.network(x)
    far = module.sample_logits(x, 3) - mean
    module.temperature.fill_(0.25)
    torch.testing.assert_close(module.sample_logits(x, 3) - mean, far / 2)
    module.temperature.fill_(1e-12)
    torch.testing.assert_close(module(x), log_softmax(mean, 1), atol=1e-4, rtol=1e-4)
