"""Training between the samples."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Beta

from trustml.contracts import Domain
from trustml.defenses._hardening import Hardened, Loss
from trustml.errors import BadOption
from trustml.registry import safeguard


@safeguard(
    source="Zhang et al. 2018, arXiv:1710.09412",
    stage="training",
    beaten_by="any white-box attack",
    does_not_stop="adversarial inputs beyond the smallest budgets, triggers",
)
def mixup(fresh: Callable[[], nn.Module], domain: Domain, /, *, alpha: float = 0.2) -> nn.Module:
    """Train on mixtures of two samples, each label weighted by its sample's share.

    Args:
        fresh: builds the model.
        domain: of its inputs.
        alpha: shares are drawn from Beta(alpha, alpha), one a batch; more mixes more.

    Raises:
        BadOption: an alpha that is not above 0.
        NotApplicable: the model fits itself.
    """
    if not alpha > 0:
        raise BadOption(f"mixup: alpha={alpha:g} is not allowed: it must be above 0")
    shares = Beta(alpha, alpha)

    def loss(model: nn.Module, plain: Loss, x: Tensor, y: Tensor, over: float) -> Tensor:
        if not torch.is_grad_enabled():  # a validation loss is of the samples themselves
            return plain(x, y)
        share = float(shares.sample())
        other = torch.randperm(len(x)).to(x.device)
        mixed = share * x + (1 - share) * x[other]
        return share * plain(mixed, y) + (1 - share) * plain(mixed, y[other])

    return Hardened("mixup", fresh, loss)
