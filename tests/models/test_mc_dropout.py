"""Monte-Carlo dropout: numbered masks, by hand and by their rate."""

import math
from collections.abc import Callable

import torch
from torch import nn

from trustml.contracts import Split
from trustml.models._mc_dropout import MCDropout


def test_mc_dropout_masks_hidden_units_by_hand(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """Two hidden layers: each draw zeroes some units and doubles the others, as written out."""
    module = model("mc_dropout", dropout=0.5, draws=4)
    assert isinstance(module, MCDropout)
    first, second, head = (x for x in module.network.modules() if isinstance(x, nn.Linear))
    x = samples(6).x
    for draw, logits in enumerate(module.sample_logits(x, 4)):
        masks = module.masks0[draw], module.masks1[draw]
        assert {float(value) for value in torch.cat(masks)} <= {0.0, 2.0}
        hidden = first(x).clamp_min(0) * masks[0]
        hidden = second(hidden).clamp_min(0) * masks[1]
        torch.testing.assert_close(logits, head(hidden))


def test_mc_dropout_masks_have_the_rate(model: Callable[..., nn.Module]) -> None:
    """Over 400 draws of 256 units the share dropped is p within four standard errors."""
    module = model("mc_dropout", "mlp", dropout=0.3, draws=400)
    dropped = float((module.masks0 == 0).float().mean())
    assert abs(dropped - 0.3) < 4 * math.sqrt(0.3 * 0.7 / module.masks0.numel())
    kept = module.masks0[module.masks0 > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.7))


def test_mc_dropout_mean_over_all_masks_is_the_mean_network(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """With dropout before a linear head only, logits averaged over draws tend to the plain ones."""
    module = model("mc_dropout", "mlp:hidden=[16]", draws=4000)
    x = samples(5).x
    with torch.no_grad():
        draws, plain = module.sample_logits(x, 4000), module.network(x)
    error = draws.std(0) / math.sqrt(4000)
    assert bool(((draws.mean(0) - plain).abs() < 5 * error).all())
    assert torch.equal(module.features(x), module.network.features(x))


def test_mc_dropout_trains_under_fresh_masks_for_each_sample(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """In train mode two equal inputs in a batch lose differently; in eval mode they do not."""
    module = model("mc_dropout", "mlp:hidden=[64]", dropout=0.5)
    x, y = samples(1).x.expand(2, 3), torch.zeros(2, dtype=torch.int64)
    assert torch.equal(module.network.eval()(x)[0], module.network(x)[1])
    module.train()
    assert not torch.equal(module.network(x)[0], module.network(x)[1])
    losses = {module.training_loss(x, y, 10).item() for _ in range(3)}
    assert len(losses) == 3
