"""The gradient of the class's logit."""

from torch import Tensor

from trustml.attributions._calling import attributing
from trustml.contracts import Classifier
from trustml.registry import attribution


@attribution(source="Simonyan et al. 2014, arXiv:1312.6034, §3", influence=True)
def gradient(model: Classifier, x: Tensor, target: Tensor, background: Tensor, /) -> Tensor:
    """Return the gradient (B, *S) of the target's logit, with its sign."""
    from captum.attr import Saliency

    with attributing("gradient", model, x, target) as start:
        return Saliency(model).attribute(start, target=target, abs=False).detach()
