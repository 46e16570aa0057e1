"""ConfidNet: a classifier with a second network that says how far its answer can be trusted."""

import copy

import torch
from torch import Tensor, nn

from trustml.confidence import (
    ConfidenceHead,
    ConfidenceReader,
    fine_tuned,
    fit_head,
    true_class_probability,
)
from trustml.contracts import Domain, Epoch, Split, Training
from trustml.errors import BadOption
from trustml.models._bayesian import body_network
from trustml.models._network import Network
from trustml.registry import model
from trustml.training import EVALUATION_BATCH, fit


@model(
    source="Corbière et al. 2019, arXiv:1910.04851",
    training=Training(epochs=100, batch_size=64, learning_rate=3e-3, patience=10),
)
def confidnet(
    domain: Domain,
    /,
    *,
    body: str = "cnn",
    hidden: tuple[int, ...] = (400, 400, 400, 400),
    steps: int = 1000,
    fine_tune: int = 200,
    confidence_rate: float = 1e-3,
) -> nn.Module:
    """A classifier, and a copy of its encoder with a head for the probability of the true class.

    The classifier is trained first and then left alone; the head learns on the validation split,
    which the classifier has not learnt from; then head and copy learn on together.

    Args:
        body: the classifier, as mlp or "cnn:channels=[8],kernel=3".
        hidden: widths of the head's layers.
        steps: of training the head, 128 samples each.
        fine_tune: steps in which the copied encoder learns too; 0 for none.
        confidence_rate: learning rate of the head; a hundredth of it for the fine-tuning.

    Raises:
        BadOption: an option that is out of range.
        NotApplicable: the body cannot be had on this domain.
    """
    if steps < 1 or fine_tune < 0 or not confidence_rate > 0:
        raise BadOption(
            f"confidnet: steps={steps}, fine_tune={fine_tune}, confidence_rate={confidence_rate} "
            f"is not allowed: steps must be 1 or more, fine_tune 0 or more, the rate above 0"
        )
    network = body_network(domain, body, owner="confidnet")
    return ConfidNet(network, hidden, (steps, fine_tune), confidence_rate)


class ConfidNet(nn.Module):
    """The classifier's logits and features, and `confidence(x)` from a network beside it."""

    def __init__(
        self, body: Network, hidden: tuple[int, ...], steps: tuple[int, int], rate: float
    ) -> None:
        super().__init__()
        self.body, self.steps, self.rate = body, steps, rate
        head = ConfidenceHead(body.head.in_features, hidden)
        self.reader = ConfidenceReader(copy.deepcopy(body), head)

    def forward(self, x: Tensor) -> Tensor:
        """Return the classifier's logits (B, K)."""
        logits: Tensor = self.body(x)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return what the classifier's last layer reads, (B, D)."""
        return self.body.features(x)

    def confidence(self, x: Tensor) -> Tensor:
        """Return the learnt probability of the true class, (B,) in [0, 1], float64."""
        return self.confidence_logit(x).double().sigmoid()

    def confidence_logit(self, x: Tensor) -> Tensor:
        """Return its logit, (B,), in which sure answers still differ."""
        logits: Tensor = self.reader(x)
        return logits

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Fit the classifier on `train`, then the confidence on `validation`."""
        curve = fit(self.body, train, validation, training, seed)
        with torch.no_grad():
            parts = list(validation.batches(EVALUATION_BATCH))
            features = torch.cat([self.body.features(part.x) for part in parts])
            logits = torch.cat([self.body(part.x) for part in parts])
        target = true_class_probability(logits, validation.y)
        head, (steps, more) = self.reader.head, self.steps
        fit_head(head, features, target, steps=steps, learning_rate=self.rate, seed=seed)
        self.reader = ConfidenceReader(copy.deepcopy(self.body), head)
        if more:
            x = validation.x
            self.reader = fine_tuned(
                self.body, head, x, target, steps=more, learning_rate=self.rate, seed=seed
            )
        return curve
