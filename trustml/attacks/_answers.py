"""What attacks without gradients read off a model's answers: how near a sample is to being won."""

import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks._losses import LOSSES, LossName
from trustml.contracts import Access, Classifier, Threat
from trustml.errors import MethodFailed
from trustml.threats import check_labels


def scored(model: Classifier, x: Tensor, y: Tensor, threat: Threat, loss: LossName) -> Tensor:
    """Return the loss (B,) that an attacker climbs, infinite where it has won.

    Probabilities are turned back into logits, up to a constant that no loss here depends on.
    """
    answers = model(x)
    reached = threat.reached(answers, y)
    if y.device.type == "cpu":  # elsewhere it would be waited for, query after query
        check_labels(answers, y)
    if isinstance(model, Handed) and model.access < Access.LOGITS:
        # In float64, so that no rounding depends on where in the batch a row stands.
        answers = answers.double().clamp_min(torch.finfo(torch.float32).tiny).log().to(x.dtype)
    return LOSSES[loss](answers, y, threat.targeted).masked_fill(reached, torch.inf)


def still_open(losses: Tensor) -> Tensor:
    """Return the rows (B',) that are not won; reads the device.

    Raises:
        MethodFailed: the model answers NaN.
    """
    if bool(losses.isnan().any()):
        raise MethodFailed("the model answers NaN to allowed inputs; no attack can judge that")
    return (losses < torch.inf).nonzero()[:, 0]
