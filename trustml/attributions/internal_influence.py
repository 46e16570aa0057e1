"""Internal influence: the mean gradient at a layer, over the way from a baseline to the input."""

import torch
from torch import Tensor, nn

from trustml.access import at
from trustml.attributions._calling import MOST_ROWS, at_least, attributing
from trustml.attributions._layers import named_layer, private_copy
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Classifier
from trustml.errors import NotApplicable
from trustml.registry import attribution


@attribution(source="Leino et al. 2018, arXiv:1802.03788, def. 1", influence=True)
def internal_influence(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
    steps: int = 50,
    layer: str = "input",
) -> Tensor:
    """Return the mean gradient (B, *S) with respect to a layer on the way from baseline to x.

    At the layer "input" it is the influence of the input itself. At a convolution the influences
    are summed over channels and brought to the input's size.

    Args:
        model: gives gradients; a network, if a layer of it is asked for.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        baseline: where the way begins.
        steps: points on the way.
        layer: "input", or a module's name.

    Raises:
        BadOption: no steps.
        NotApplicable: no layer of that name, one that is used twice, or one that gives no maps.
    """
    from captum.attr import InternalInfluence, LayerAttribution

    at_least("internal_influence", steps=(steps, 1))
    with attributing("internal_influence", model, x, target):
        zero = baseline_of(baseline, model, x, target, background)
        if layer != "input":
            network: nn.Module = private_copy("internal_influence", model)
            entrance = named_layer("internal_influence", network, x[:1], layer)
        parts = []
        for part in torch.arange(len(x), device=x.device).split(max(1, MOST_ROWS // steps)):
            if layer == "input":
                entered = _Entered(at(model, part))
                network, entrance = entered, entered.entrance
            method = InternalInfluence(network, entrance)
            made = method.attribute(
                x[part], zero[part], target=target[part], n_steps=steps, method="riemann_middle"
            )
            parts.append(made.detach())
        maps = torch.cat(parts).to(x.dtype)
    if maps.shape == x.shape:
        return maps
    if x.dim() != 4 or maps.dim() != 4 or len(maps) != len(x):
        raise NotApplicable(
            f"internal_influence: layer {layer!r} gives {tuple(maps.shape[1:])}, which cannot be "
            f"drawn on inputs {tuple(x.shape[1:])}: take a convolution, or layer=input"
        )
    wide = LayerAttribution.interpolate(maps.sum(1, keepdim=True), tuple(x.shape[2:]), "bilinear")
    return wide.expand_as(x).clone()


class _Entered(nn.Module):
    """The model behind a layer that does nothing, whose gradient is that of the input."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.entrance = nn.Identity()
        # In a list, because a module here would be a part of this one, with its modes and hooks.
        self.model = [model]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.model[0](self.entrance(x))
