"""Variational networks: the ELBO that they train on, and whose draws they give."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trustml.bayes.variational import drawn, kl
from trustml.contracts import Domain, Split, Training
from trustml.models import _mean_field
from trustml.models._mean_field import MeanField
from trustml.training import fit


def test_variational_loss_is_the_negative_elbo_an_example(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """Mean cross-entropy + temperature · KL / examples; in eval mode under the mean weights."""
    module = model("variational", temperature=0.5, prior_scale=0.7)
    assert isinstance(module, MeanField)
    split = samples()
    expected = cross_entropy(module.network(split.x), split.y) + 0.5 * kl(module) / 1234
    torch.testing.assert_close(module.training_loss(split.x, split.y, 1234), expected)
    weights = [p for name, p in module.named_parameters() if name.endswith("mean")]
    rhos = [p for name, p in module.named_parameters() if name.endswith("rho")]
    truth = torch.zeros(())
    for mean, rho in zip(weights, rhos, strict=True):
        belief = torch.distributions.Normal(mean, nn.functional.softplus(rho))
        prior = torch.distributions.Normal(torch.zeros_like(mean), 0.7)
        truth = truth + torch.distributions.kl_divergence(belief, prior).sum()
    torch.testing.assert_close(kl(module), truth)
    assert len(weights) == 6


def test_variational_gains_more_from_the_elbo_than_the_plain_rate_does(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """Its loss falls, and at the end of so few epochs it is ahead of the plain rate's."""
    train, validation = samples(200), samples(50, 1)
    module, plain = model("variational"), model("variational")
    training = Training(epochs=20, batch_size=32, learning_rate=3e-3)
    curve = fit(module, train, validation, training, 0)
    slow = fit(_mean_field._Bound(plain), train, validation, training, 0)
    assert curve[-1].validation_loss < slow[-1].validation_loss < curve[0].validation_loss


@pytest.mark.parametrize("body", ["mlp", "cnn:channels=[3],kernel=3,stride=2,padding=1,hidden=[8]"])
def test_variational_draws_are_those_of_its_layers(
    body: str, model: Callable[..., nn.Module]
) -> None:
    """Every weight of the body has become a belief, with the body's own shapes and steps."""
    domain = Domain((1, 6, 6), 4)
    module = model("variational", body, domain, draws=3)
    x = torch.rand(2, 1, 6, 6)
    assert not [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for number, logits in enumerate(module.sample_logits(x, 3)):
        with drawn(module.network, number):
            assert torch.equal(module.network(x), logits)
    assert module.features(x).shape == (2, 256 if body == "mlp" else 8)
