"""Grad-CAM: where the last feature maps speak for the class."""

from torch import Tensor

from trustml.attributions._calling import attributing
from trustml.attributions._layers import last_feature_map, named_layer, private_copy
from trustml.contracts import Classifier
from trustml.errors import NotApplicable
from trustml.registry import attribution


@attribution(source="Selvaraju et al. 2017, arXiv:1610.02391, eqs. 1-2")
def grad_cam(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    layer: str = "",
    positive: bool = True,
) -> Tensor:
    """Return the last feature maps weighted by their mean gradient, as large as x (B, C, H, W).

    Every channel of the input gets the same map.

    Args:
        model: a convolutional nn.Module.
        x: images (B, C, H, W).
        target: classes (B,).
        background: not used.
        layer: the module's name; "" finds the last one that gives maps.
        positive: whether what speaks against the class is cut to 0.

    Raises:
        NotApplicable: no images, no convolution, no layer of that name, or one that is used twice.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    with attributing("grad_cam", model, x, target) as start:
        network = private_copy("grad_cam", model)
        if x.dim() != 4:
            raise NotApplicable(f"grad_cam needs images, and inputs are {tuple(x.shape[1:])}")
        name = layer or last_feature_map("grad_cam", network, x[:1])[0]
        method = LayerGradCam(network, named_layer("grad_cam", network, x[:1], name))
        small = method.attribute(start, target=target, relu_attributions=positive).detach()
        if small.dim() != 4 or len(small) != len(x):
            raise NotApplicable(
                f"grad_cam: layer {name!r} gives {tuple(small.shape)}, no map for each input"
            )
        wide = LayerAttribution.interpolate(small, tuple(x.shape[2:]), "bilinear")
        return wide.to(x.dtype).expand_as(x).clone()
