"""Layer-wise relevance propagation."""

import copy
from typing import Any, Literal

from torch import Tensor, nn

from trustml.attributions._calling import at_least, attributing
from trustml.attributions._layers import private_copy, refuse_unseen
from trustml.contracts import Classifier
from trustml.registry import attribution

# What captum's propagation takes as an activation; pooling has a rule of its own.
_BENDS = (nn.ReLU, nn.Tanh, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Rule = Literal["epsilon", "gamma", "alpha1_beta0"]


@attribution(source="Bach et al. 2015, PLoS ONE 10(7); Montavon et al. 2019, LNCS 11700, ch. 10")
def lrp(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    rule: Rule = "epsilon",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
) -> Tensor:
    """Return the share (B, *S) of the target's logit that each entry is answerable for.

    A layer's bias keeps its own share, so that the map sums to the logit less what biases took.

    Args:
        model: a network of dense and convolutional layers with ReLU, tanh or pooling.
        x: inputs (B, *S).
        target: classes (B,).
        background: not used.
        rule: how a layer with weights hands relevance on; other layers follow epsilon.
        epsilon: what is added to each denominator.
        gamma: by how much the rule gamma favours positive weights.

    Raises:
        NotApplicable: a network with a part that the rules do not see: a module used twice, a
            function in a module's place, a residual connection, an activation without a rule.
        BadOption: an epsilon or gamma that is not above 0.
    """
    from captum.attr import LRP

    at_least("lrp", epsilon=(epsilon, 1e-12), gamma=(gamma, 1e-12))
    with attributing("lrp", model, x, target) as start:
        # captum puts other numbers in the weights' place for a while: this copy has its own.
        network = copy.deepcopy(private_copy("lrp", model))
        refuse_unseen("lrp", network, x[:1], _BENDS, forks=False)
        for module in network.modules():
            if not list(module.children()) and not isinstance(module, nn.ReLU | nn.Tanh):
                module.rule = _rule(module, rule, epsilon, gamma)
        return LRP(network).attribute(start, target=target).detach().to(x.dtype)


def _rule(module: nn.Module, rule: Rule, epsilon: float, gamma: float) -> Any:
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule

    if isinstance(module, _WEIGHTED) and rule == "gamma":
        return GammaRule(gamma)
    if isinstance(module, _WEIGHTED) and rule == "alpha1_beta0":
        return Alpha1_Beta0_Rule()
    return EpsilonRule(epsilon)
