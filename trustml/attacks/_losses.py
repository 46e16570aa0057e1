"""Losses that an attacker climbs: (B,) from logits (B, K), the higher the nearer to a misreading.

Each takes `targeted`: then y are the wanted classes and the sign is turned.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

LossName = Literal["cross_entropy", "margin", "dlr", "jitter"]
_TINY = 1e-12
# What the largest logit counts for `jitter`, whatever it is.
_SURENESS = 10.0


def cross_entropy(logits: Tensor, y: Tensor, targeted: bool = False) -> Tensor:
    """Return −log softmax(logits)[y] (B,); with `targeted` its negative."""
    loss = functional.cross_entropy(logits, y, reduction="none")
    return -loss if targeted else loss


def margin(logits: Tensor, y: Tensor, targeted: bool = False) -> Tensor:
    """Return the best other logit minus that of y (B,); with `targeted` its negative.

    Above zero just where the attacker has won (Carlini & Wagner 2017, f6 without its bound).
    """
    own, other = own_and_other(logits, y)
    return own - other if targeted else other - own


def dlr(logits: Tensor, y: Tensor, targeted: bool = False) -> Tensor:
    """Return the margin over the gap between the first logit and the third (B,).

    Croce & Hein 2020, equation 6. With `targeted` the gap is their equation 7's, from the first to
    the mean of third and fourth. It needs 3 classes (targeted: 4); fewer get the plain margin.
    """
    if logits.shape[1] < (4 if targeted else 3):
        return margin(logits, y, targeted)
    return margin(logits, y, targeted) / _gap(logits, 4 if targeted else 3)


def dlr_towards(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return how near the class `target` (B,) is to passing the true class y, over the gap (B,).

    Croce & Hein 2020, equation 7. It needs 4 classes; with fewer the gap is left out.
    """
    ahead = logits.gather(1, target[:, None])[:, 0] - logits.gather(1, y[:, None])[:, 0]
    return ahead if logits.shape[1] < 4 else ahead / _gap(logits, 4)


def jitter(logits: Tensor, y: Tensor, targeted: bool = False) -> Tensor:
    """Return the square distance of softmax(10 z / max |z|) from the label (B,).

    Schwinn et al. 2021, arXiv:2105.10304, of logits z less their mean, which says nothing, and
    without their noise. However large the logits are, the softmax is not so sure as to be flat.
    """
    from_mean = logits - logits.mean(1, keepdim=True)
    size = from_mean.abs().amax(1, keepdim=True).clamp_min(_TINY)
    label = torch.zeros_like(logits).scatter(1, y[:, None], 1.0)
    loss = ((_SURENESS * from_mean / size).softmax(1) - label).square().sum(1)
    return -loss if targeted else loss


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """Return KL(softmax(clean) ‖ softmax(logits)) (B,): how far the answers have left the clean."""
    towards, away = clean.log_softmax(1), logits.log_softmax(1)
    return functional.kl_div(away, towards, log_target=True, reduction="none").sum(1)


def own_and_other(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logit of y and the highest of the others, (B,) each."""
    chosen = y[:, None]
    own = logits.gather(1, chosen)[:, 0]
    # -inf, not 0, so that the others win when they are all negative.
    return own, logits.scatter(1, chosen, -torch.inf).amax(1)


LOSSES: dict[LossName, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "jitter": jitter,
}


def _gap(logits: Tensor, places: int) -> Tensor:
    """Return first minus third logit, or minus the mean of third and fourth where places is 4."""
    top = logits.topk(places, dim=1).values
    far = top[:, 2] if places == 3 else (top[:, 2] + top[:, 3]) / 2
    return top[:, 0] - far + _TINY
