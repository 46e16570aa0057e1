"""The input times the gradient of the class's logit."""

from torch import Tensor

from trustml.attributions._calling import attributing
from trustml.contracts import Classifier
from trustml.registry import attribution


@attribution(source="Shrikumar et al. 2016, arXiv:1605.01713, §3.1")
def input_x_gradient(model: Classifier, x: Tensor, target: Tensor, background: Tensor, /) -> Tensor:
    """Return x times the gradient (B, *S): the first-order difference from the zero input."""
    from captum.attr import InputXGradient

    with attributing("input_x_gradient", model, x, target) as start:
        return InputXGradient(model).attribute(start, target=target).detach()
