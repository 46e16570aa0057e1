"""What every corruption keeps to: pictures stay pictures, each changed on its own."""

import pytest
import torch

from trustml.corrupting import SEVERITIES
from trustml.errors import BadOption, NotApplicable
from trustml.randomness import keyed
from trustml.registry import Plugin, all_of

CORRUPTIONS = [pytest.param(plugin, id=plugin.name) for plugin in all_of("corruption")]
on_every_corruption = pytest.mark.parametrize("plugin", CORRUPTIONS)


@on_every_corruption
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 12)])
def test_pictures_stay_pictures(plugin: Plugin, channels: int, side: int) -> None:
    """In [0, 1], finite, of the same shape, the given ones untouched, and another at severity 5."""
    x = torch.rand(5, channels, side, side, generator=torch.Generator().manual_seed(0))
    twin, state = x.clone(), torch.get_rng_state()
    for severity in SEVERITIES:
        changed = plugin.function(x, severity, random=keyed(1, torch.arange(5)))
        assert changed.shape == x.shape
        assert bool(((changed >= 0) & (changed <= 1)).all())
        assert torch.equal(x, twin), "the pictures were changed in place"
    assert not torch.equal(changed, x)
    assert torch.equal(torch.get_rng_state(), state), "take random numbers from `random`"


@on_every_corruption
def test_a_picture_never_depends_on_its_batch(plugin: Plugin) -> None:
    """The same pictures in another order, alone, and in parts."""
    x = torch.rand(6, 1, 9, 9, generator=torch.Generator().manual_seed(2))
    random = keyed(3, torch.arange(6))
    together = plugin.function(x, 4, random=random)
    for rows in (torch.arange(6).flip(0), torch.tensor([2]), torch.tensor([5, 0])):
        alone = plugin.function(x[rows], 4, random=random.at(rows))
        assert torch.allclose(alone, together[rows], atol=1e-6)


@on_every_corruption
def test_what_is_no_picture_is_refused(plugin: Plugin) -> None:
    """With the errors of the family, before the corruption sees it."""
    random = keyed(0, torch.arange(2))
    with pytest.raises(NotApplicable):
        plugin.function(torch.rand(2, 7), 1, random=random)
    with pytest.raises(BadOption):
        plugin.function(torch.rand(2, 1, 8, 8), 0, random=random)
