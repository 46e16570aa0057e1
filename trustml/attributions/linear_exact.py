"""The exact attribution of a model whose logits are affine in the input: the class's weight row."""

import torch
from torch import Tensor

from trustml.affine import affine_map, agrees
from trustml.attributions._calling import attributing
from trustml.contracts import Classifier
from trustml.errors import NotApplicable
from trustml.registry import attribution


@attribution(source="f(x) - f(x₀) = w·(x - x₀) for every x₀", influence=True)
def linear_exact(model: Classifier, x: Tensor, target: Tensor, background: Tensor, /) -> Tensor:
    """Return the target's weight row (B, *S): complete for every baseline; x · map explains x.

    Raises:
        NotApplicable: the logits are not affine in the input, or have no gradient.
    """
    with attributing("linear_exact", model, x, target):
        with torch.no_grad():
            logits = model(x)
        weight, bias = affine_map(model, x, logits.shape[1])
        # Points between and beyond the inputs, where a bend would show.
        for points in (x, x.roll(1, 0) * 0.5 + x * 0.5, x.flip(-1), 2 * x - x.mean()):
            with torch.no_grad():
                same = agrees(weight, bias, points, model(points))
            if not same:
                raise NotApplicable(
                    "linear_exact: the model's logits are not affine in its input; it suits models "
                    "such as 'logistic'"
                )
        return weight.gather(0, target[:, None].expand(-1, weight.shape[1])).view_as(x).to(x.dtype)
