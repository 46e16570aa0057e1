"""Probabilities of logits, computed so that answers close to certain stay apart."""

import math

from torch import Tensor
from torch.nn.functional import log_softmax


def odds_against(logits: Tensor) -> Tensor:
    """Return (1 - p)/p (B,) of the first class's probability p, right however small it is."""
    first = logits.amax(1, keepdim=True)
    ratios = (logits - first).exp()
    # The first class's own ratio is 1; taking it away after the sum would round the rest off.
    return ratios.scatter(1, logits.argmax(1, keepdim=True), 0.0).sum(1)


def doubt(logits: Tensor) -> Tensor:
    """Return one minus the highest class probability, (B,)."""
    against = odds_against(logits)
    return against / (1 + against)


def entropy(log_probabilities: Tensor) -> Tensor:
    """Return the entropy in nats over the last axis."""
    return -(log_probabilities.exp() * log_probabilities).nan_to_num(0.0).sum(-1)


def log_mean_probability(draws: Tensor) -> Tensor:
    """Return the log of the mean probability over draws, (B, K) for logits (S, B, K)."""
    return log_softmax(draws, dim=-1).logsumexp(0) - math.log(len(draws))
