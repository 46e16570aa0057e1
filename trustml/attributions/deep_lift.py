"""DeepLIFT, rescale rule."""

import torch
from torch import Tensor, nn

from trustml.attributions._calling import attributing
from trustml.attributions._layers import private_copy, refuse_unseen
from trustml.attributions._pooling import pooled_by_relus
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Classifier
from trustml.errors import MethodFailed
from trustml.registry import attribution

_BENDS = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
_SAME = 0.01


@attribution(source="Shrikumar et al. 2017, arXiv:1704.02685, §3.5.1")
def deep_lift(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
) -> Tensor:
    """Return contributions (B, *S) that sum to the logit's difference from the baseline.

    Maximum pooling is taken apart into ReLUs, each of which follows the rescale rule.

    Raises:
        NotApplicable: a network with a part that the rule does not see: a module used twice, a
            function in a module's place, an activation without a rule.
        MethodFailed: the contributions do not sum to the difference.
    """
    from captum.attr import DeepLift

    with attributing("deep_lift", model, x, target) as start:
        zero = baseline_of(baseline, model, x, target, background)
        network = pooled_by_relus(private_copy("deep_lift", model))
        refuse_unseen("deep_lift", network, x[:1], _BENDS, forks=True)
        with torch.no_grad():
            ends = [model(point).gather(1, target[:, None])[:, 0].double() for point in (x, zero)]
        maps = DeepLift(network).attribute(start, zero, target=target).detach()
    off = (maps.double().flatten(1).sum(1) - (ends[0] - ends[1])).abs()
    if not bool((off <= _SAME * (ends[0].abs() + ends[1].abs())).all()):
        raise MethodFailed(
            f"deep_lift: the contributions miss the difference by up to {float(off.max()):.3g}: "
            f"the network has a part that the rule does not see; take integrated_gradients"
        )
    return maps
