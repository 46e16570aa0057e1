"""The exact answer for models whose logits are affine in the input: truth for other attacks."""

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.affine import minimal_move, strongest_move
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import NotApplicable
from trustml.geometry import like
from trustml.registry import attack
from trustml.threats import check_readable

# Relative to the terms that a logit sums: float32 rounds to 6e-8 of each.
_SAME = 1e-5
_OVERSHOOT = 2e-6


@attack(
    source="Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, §2, with the box; exact by sorting",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1", "l0"),
    targeted=False,
    minimum_norm=True,
)
def linear_exact(
    model: Classifier, x: Tensor, y: Tensor, threat: Threat, /, *, random: Random
) -> Tensor:
    """Return the nearest misread points (B, *S), or the most misleading where none is in reach.

    For models whose logits are weight @ x + bias; which they are is read off the gradient.

    Raises:
        NotApplicable: the model is not affine in its input, or gives no gradient.
    """
    with frozen(model):
        with torch.no_grad():
            logits = model(x)
        check_readable(logits, y)
        weight, bias = _affine_map(model, x, logits.shape[1], threat)
        between = threat.low + random.uniform(tuple(x.shape[1:]), "affine") * (
            threat.high - threat.low
        )
        with torch.no_grad():
            _check(weight, bias, x, logits)
            _check(weight, bias, between, model(between.to(x.dtype)))
            box = (threat.low, threat.high)
            move = minimal_move(weight, bias, x, y, threat.norm, box, overshoot=_OVERSHOOT)
            near = threat.project((x.double() + move).to(x.dtype), x)
            move = strongest_move(weight, bias, x, y, threat.norm, threat.budget(x), box)
            far = threat.project((x.double() + move).to(x.dtype), x)
            found = torch.where(like(threat.reached(model(near), y), x), near, far)
            return torch.where(like(threat.reached(logits, y), x), x, found)


def _affine_map(
    model: Classifier, x: Tensor, classes: int, threat: Threat
) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,) in float64, from one gradient of each logit."""
    middle = torch.full_like(x[:1], (threat.low + threat.high) / 2)
    points = middle.expand(classes, *x.shape[1:]).clone().requires_grad_()
    rows = torch.arange(classes, device=x.device) % len(x)
    with torch.enable_grad():
        logits = at(model, rows)(points)
        if not logits.requires_grad:
            raise NotApplicable("linear_exact: the model's answers have no gradient")
        (gradient,) = torch.autograd.grad(logits.diagonal().sum(), points)
    weight = gradient.double().flatten(1)
    return weight, logits[0].detach().double() - weight @ middle.double().flatten()


def _check(weight: Tensor, bias: Tensor, x: Tensor, logits: Tensor) -> None:
    flat = x.double().flatten(1)
    off = (flat @ weight.T + bias - logits.double()).abs()
    terms = flat.abs() @ weight.abs().T + bias.abs() + 1
    if not bool((off <= _SAME * terms).all()):
        raise NotApplicable(
            "linear_exact: the model's logits are not affine in its input; it suits models such as "
            "'logistic'"
        )
