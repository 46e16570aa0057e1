"""Guided backpropagation: no negative gradient passes a ReLU."""

from torch import Tensor, nn

from trustml.attributions._calling import attributing
from trustml.attributions._layers import private_copy, refuse_unseen
from trustml.contracts import Classifier
from trustml.errors import NotApplicable
from trustml.registry import attribution

_BENDS = (
    nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.GELU, nn.MaxPool1d,
    nn.MaxPool2d, nn.MaxPool3d,
)  # fmt: skip


@attribution(source="Springenberg et al. 2015, arXiv:1412.6806, §3.4", influence=True)
def guided_backprop(model: Classifier, x: Tensor, target: Tensor, background: Tensor, /) -> Tensor:
    """Return the gradient (B, *S) as ReLUs let it through that pass nothing negative back.

    Raises:
        NotApplicable: a network without ReLU modules, with one that is used twice, or with
            functions in a module's place.
    """
    from captum.attr import GuidedBackprop

    with attributing("guided_backprop", model, x, target) as start:
        network = private_copy("guided_backprop", model)
        calls = refuse_unseen("guided_backprop", network, x[:1], _BENDS, forks=True)
        if not any(isinstance(call.module, nn.ReLU) for call in calls):
            raise NotApplicable(
                "guided_backprop changes ReLUs, and this network has none: take gradient"
            )
        return GuidedBackprop(network).attribute(start, target=target).detach()
