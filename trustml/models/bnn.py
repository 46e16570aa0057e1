"""Bayesian neural networks: one face, several ways to a distribution over the weights."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from trustml.bayes.checks import check_positive, check_whole
from trustml.bayes.variational import Estimator, VariationalOptions
from trustml.contracts import Domain, Training
from trustml.errors import BadOption
from trustml.models._bayesian import body_network
from trustml.models._ensemble import Ensemble
from trustml.models._laplace import Laplace
from trustml.models._laplace_last_layer import LaplaceLastLayer
from trustml.models._mc_dropout import MCDropout
from trustml.models._mean_field import MeanField
from trustml.models._swag import Swag
from trustml.registry import model

Posterior = Literal[
    "mc_dropout", "variational", "laplace", "laplace_last_layer", "ensemble", "bootstrap", "swag"
]
# Options that not every posterior has a use for, and their defaults.
DEFAULTS: Mapping[str, Any] = {
    "draws": 20, "dropout": 0.2, "prior_scale": 1.0, "temperature": None, "estimator": "flipout",
    "members": 5, "snapshots": 20,
}  # fmt: skip
USES: Mapping[Posterior, frozenset[str]] = {
    "mc_dropout": frozenset({"draws", "dropout"}),
    "variational": frozenset({"draws", "prior_scale", "temperature", "estimator"}),
    "laplace": frozenset({"draws", "prior_scale", "temperature"}),
    "laplace_last_layer": frozenset({"draws", "prior_scale", "temperature"}),
    "ensemble": frozenset({"members"}),
    "bootstrap": frozenset({"members"}),
    "swag": frozenset({"draws", "prior_scale", "temperature", "snapshots"}),
}


@model(
    source="Gal 2016, arXiv:1506.02142; Blundell 2015, arXiv:1505.05424; Daxberger 2021, "
    "arXiv:2106.14806; Lakshminarayanan 2017, arXiv:1612.01474; Maddox 2019, arXiv:1902.02476",
    training=Training(epochs=100, batch_size=64, learning_rate=3e-3, patience=10),
)
def bnn(
    domain: Domain,
    /,
    *,
    posterior: Posterior = "mc_dropout",
    body: str = "mlp",
    draws: int = DEFAULTS["draws"],
    dropout: float = DEFAULTS["dropout"],
    prior_scale: float | None = DEFAULTS["prior_scale"],
    temperature: float | None = DEFAULTS["temperature"],
    estimator: Estimator = DEFAULTS["estimator"],
    members: int = DEFAULTS["members"],
    snapshots: int = DEFAULTS["snapshots"],
) -> nn.Module:
    """A network with a distribution over its weights; its logits are log mean probabilities.

    Args:
        posterior: how the distribution is found; variational learns at thrice the learning_rate.
        body: the network, as mlp or "cnn:channels=[8],kernel=3".
        draws: networks that an answer is the mean of.
        dropout: rate of mc_dropout.
        prior_scale: standard deviation of the prior of every weight; None, for the two Laplace
            posteriors: train with 1, then take the one of greatest evidence.
        temperature: 1 is Bayes, below 1 is more certain: it multiplies the KL of variational and
            the covariances of the others. None: 1 for variational; for the others the one under
            which the validation labels are likeliest.
        estimator: how variational draws noise while it learns.
        members: networks of an ensemble or bootstrap.
        snapshots: epochs that swag walks on, and keeps the weights of.

    Raises:
        BadOption: an option that is out of range, or of no use to the posterior.
        NotApplicable: the body cannot be had on this domain or by this posterior.
    """
    given = {
        "draws": draws, "dropout": dropout, "prior_scale": prior_scale, "temperature": temperature,
        "estimator": estimator, "members": members, "snapshots": snapshots,
    }  # fmt: skip
    _check(posterior, given)
    if posterior in ("ensemble", "bootstrap"):
        networks = [body_network(domain, body) for _ in range(members)]
        return Ensemble(networks, bootstrap=posterior == "bootstrap")
    if posterior == "mc_dropout":
        return MCDropout(body_network(domain, body, dropout=dropout), draws)
    network = body_network(domain, body)
    if posterior == "laplace":
        return Laplace(network, draws, temperature, prior_scale)
    if posterior == "laplace_last_layer":
        return LaplaceLastLayer(network, draws, temperature, prior_scale)
    if prior_scale is None:
        raise BadOption(f"bnn:posterior={posterior} needs a prior_scale: only Laplace chooses one")
    if posterior == "variational":
        beliefs = VariationalOptions(prior_scale=prior_scale, estimator=estimator)
        return MeanField(network, draws, temperature or 1.0, beliefs)
    return Swag(network, draws, temperature, prior_scale, snapshots)


def _check(posterior: Posterior, given: Mapping[str, Any]) -> None:
    """Refuse options that are out of range, or that would do nothing.

    Raises:
        BadOption: the first such option.
    """
    for name, value in given.items():
        if name not in USES[posterior] and value != DEFAULTS[name]:
            raise BadOption(
                f"bnn:posterior={posterior} has no use for {name}; "
                f"it takes {', '.join(sorted(USES[posterior]))}"
            )
    for name, least in (("draws", 1), ("members", 2), ("snapshots", 2)):
        check_whole(least, **{f"bnn: {name}": given[name]})
    for name in ("prior_scale", "temperature"):
        if given[name] is not None:
            check_positive(**{f"bnn: {name}": given[name]})
