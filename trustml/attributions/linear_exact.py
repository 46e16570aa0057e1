"""The exact attribution of a model whose logits are affine in the input: the class's weight row."""

import torch
from torch import Tensor

from trustml.access import at
from trustml.attributions._calling import attributing
from trustml.contracts import Classifier
from trustml.errors import NotApplicable
from trustml.registry import attribution

# Relative to the terms that a logit sums: float32 rounds to 6e-8 of each.
_SAME = 1e-5


@attribution(source="f(x) - f(x₀) = w·(x - x₀) for every x₀", influence=True)
def linear_exact(model: Classifier, x: Tensor, target: Tensor, background: Tensor, /) -> Tensor:
    """Return the target's weight row (B, *S): complete for every baseline; x · map explains x.

    Raises:
        NotApplicable: the logits are not affine in the input, or have no gradient.
    """
    with attributing("linear_exact", model, x, target):
        with torch.no_grad():
            logits = model(x)
        weight, bias = _affine_map(model, x, logits.shape[1])
        # Points between and beyond the inputs, where a bend would show.
        for points in (x, x.roll(1, 0) * 0.5 + x * 0.5, x.flip(-1), 2 * x - x.mean()):
            with torch.no_grad():
                _check(weight, bias, points, model(points))
        return weight.gather(0, target[:, None].expand(-1, weight.shape[1])).view_as(x).to(x.dtype)


def _affine_map(model: Classifier, x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,) in float64, from one gradient of each logit."""
    middle = x.detach().mean(0, keepdim=True)
    points = middle.expand(classes, *x.shape[1:]).clone().requires_grad_()
    rows = torch.arange(classes, device=x.device) % len(x)
    logits = at(model, rows)(points)
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
