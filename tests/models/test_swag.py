"""SWAG: the spread of its draws, and where its walk ends."""

from collections.abc import Callable

import torch
from torch import nn

from trustml.contracts import Split, Training
from trustml.models._swag import Swag
from trustml.training import fit


def test_swag_draws_have_half_the_spread_of_each_kind(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """Covariance = (diagonal + low rank)/2 of the snapshots, within the error of 6000 draws."""
    module = model("swag", "mlp:hidden=[]", snapshots=4, temperature=0.7)
    assert isinstance(module, Swag)
    generator = torch.Generator().manual_seed(0)
    deviations = torch.randn(module.deviations.shape, generator=generator)
    module.deviations.copy_(deviations - deviations.mean(0))
    x = samples(2).x
    # The network is linear: logit k is row k of (W, b) times (x, 1).
    rows = torch.cat([x, torch.ones(2, 1)], 1)
    weights = module.deviations[:, :12].view(4, 4, 3)
    along = torch.einsum(
        "rkd,bd->rbk", torch.cat([weights, module.deviations[:, 12:, None]], 2), rows
    )
    squares = module.deviations.square().mean(0)
    square = torch.cat([squares[:12].view(4, 3), squares[12:, None]], 1)
    truth = 0.7 / 2 * (torch.einsum("kd,bd->bk", square, rows**2) + along.square().sum(0) / 3)
    draws, plain = module.sample_logits(x, 6000).detach(), module.network(x).detach()
    assert float((draws.var(0) / truth - 1).abs().max()) < 0.1
    assert float(((draws.mean(0) - plain) / truth.sqrt()).abs().max()) < 0.07


def test_swag_ends_at_the_mean_of_its_walk(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """Deviations sum to zero, and the curve has the walk's epochs after those of training."""
    module = model("swag", snapshots=3)
    curve = fit(module, samples(), samples(20, 1), Training(epochs=4), 0)
    assert len(curve) == 7
    assert float(module.deviations.abs().max()) > 1e-4
    assert float(module.deviations.sum(0).abs().max()) < 1e-5
