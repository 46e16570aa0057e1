"""What attacks without gradients read off a model's answers: how near a sample is to being won."""

import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks._losses import LOSSES, LossName
from trustml.contracts import Access, Classifier, Threat
from trustml.errors import MethodFailed
from trustml.threats import check_labels

FREE = ("cpu",)  # devices where a look costs less than a count


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
    """Return the rows (B',) that are not won; reads the device once.

    Raises:
        MethodFailed: the model answers NaN.
    """
    rows, broken = rows_of(losses < torch.inf, losses.isnan())
    if broken:
        raise MethodFailed("the model answers NaN to allowed inputs; no attack can judge that")
    return rows


def unwon(held: Tensor, seen: Tensor) -> Tensor:
    """Return the rows (B',) whose best loss so far is finite; reads the device once.

    Raises:
        MethodFailed: a loss that was just seen (B,) is NaN.
    """
    rows, broken = rows_of(held < torch.inf, seen.isnan())
    if broken:
        raise MethodFailed(
            "the loss is NaN at allowed inputs: the model answers NaN or infinity there, or "
            "its slope is NaN; no attack can judge that"
        )
    return rows


def rows_of(mask: Tensor, odd: Tensor) -> tuple[Tensor, bool]:
    """Return the rows (B',) of a mask (B,), and whether anything is odd, by one look at the device.

    A look waits for all that was asked of it; so both are counted first.
    """
    if mask.device.type in FREE:
        return mask.nonzero()[:, 0], bool(odd.any())
    count, odds = torch.stack([mask.sum(), odd.sum()]).tolist()
    if count == len(mask):
        return torch.arange(count, device=mask.device), bool(odds)
    return mask.byte().argsort(descending=True, stable=True)[:count], bool(odds)
