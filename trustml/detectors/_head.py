"""The last layer: weight and bias that turn features into logits."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import features_of, logits_of, need_rows
from trustml.errors import NotApplicable

# A float32 network's logits are off by about 1e-6 of the greatest; a bend is off by far more.
TOLERANCE = 1e-3
CHECKED = 1000
RANK = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """logits = features · weightᵀ + bias, weight (K, D) and bias (K,) float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return the logits (B, K)."""
        return linear(features, self.weight, self.bias)

    def after(self, outputs: Outputs, features: Tensor) -> Outputs:
        """Return the outputs as they are with these features; draws of other logits go."""
        return replace(outputs, features=features, logits=self(features), draws=None)


def last_layer(model: Classifier, train: Outputs, validation: Outputs) -> Head:
    """Return the model's last layer: its `head`, or what least squares finds in its outputs.

    Least squares cannot see along directions in which the training features do not vary: there the
    weight is 0.

    Raises:
        NotApplicable: the logits are no linear function of the features, or there are none.
        BadInput: outputs that are no numbers.
    """
    own = getattr(model, "head", None)
    if isinstance(own, nn.Linear):
        weight = own.weight.detach().float().to(train.features.device)
        bias = weight.new_zeros(len(weight)) if own.bias is None else own.bias.detach().to(weight)
        head = Head(weight, bias)
        # A front end before this one may have changed the logits: then the head is another.
        if _miss(head, train) < TOLERANCE:
            return head
    need_rows(train, "training", 2)
    head = _least_squares(features_of(train), logits_of(train))
    miss = max(_miss(head, train), _miss(head, validation))
    if not miss < TOLERANCE:
        raise NotApplicable(
            f"it needs a linear last layer, and the logits are not linear in the features: the "
            f"best fit misses by {miss:.1g} of the greatest logit; take a detector that reads "
            f"logits"
        )
    return head


def _miss(head: Head, outputs: Outputs) -> float:
    """Return the greatest error of the head, as a share of the greatest logit."""
    features, logits = features_of(outputs)[:CHECKED].float(), logits_of(outputs)[:CHECKED]
    if head.weight.shape != (logits.shape[1], features.shape[1]) or not len(logits):
        return torch.inf
    error = (head(features).double() - logits).abs().amax()
    return float(error / logits.abs().amax().clamp_min(torch.finfo(torch.float32).tiny))


def _least_squares(features: Tensor, logits: Tensor) -> Head:
    """Return the least-squares head of least norm, in units of each feature's spread."""
    centre, middle = features.double().mean(0), logits.mean(0)
    x = features.double() - centre
    spread = x.square().mean(0).sqrt()
    scale = torch.where(spread > 0, 1 / spread, 0.0)
    x = x * scale
    inverse = torch.linalg.pinv(x.T @ x, rtol=RANK, hermitian=True)
    weight = (inverse @ (x.T @ (logits - middle))).T * scale
    return Head(weight.float(), (middle - weight @ centre).float())
