"""What every poison keeps to: ids, the box, its rate, and the same again for the same seed."""

import pytest
import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.registry import Plugin, all_of
from trustml.splits import check_split

POISONS = [pytest.param(plugin, id=plugin.name) for plugin in all_of("poison")]
on_every_poison = pytest.mark.parametrize("plugin", POISONS)
RATE = 0.1


def scene() -> Split:
    """Return 200 images of four classes, in a box that is not [0, 1]; the ids are in no order."""
    draw = torch.Generator().manual_seed(3)
    x = torch.rand(200, 1, 8, 8, generator=draw) * 3 - 1
    y = torch.randint(4, (200,), generator=draw)
    return Split(x, y, torch.randperm(900, generator=draw)[:200], 4, -1.0, 2.0)


def options(plugin: Plugin, rate: float) -> dict[str, float]:
    """Return the rate, where the poison has one."""
    return {"rate": rate} if "rate" in {option.name for option in plugin.options} else {}


def changed(before: Split, after: Split) -> Tensor:
    """Return (B,) whether a sample's input or label is another."""
    return ((before.x != after.x).flatten(1).any(1)) | (before.y != after.y)


@on_every_poison
def test_ids_box_and_clean_split_stay(plugin: Plugin) -> None:
    """A sample is found again by its id; inputs stay in the box; the given split is not touched."""
    split, twin = scene(), scene()
    after, trigger = plugin.function(split, random=keyed(0, split.ids), **options(plugin, RATE))
    check_split(after, plugin.name)
    assert torch.equal(after.ids, split.ids)
    assert after.domain == split.domain
    assert torch.equal(split.x, twin.x)
    assert torch.equal(split.y, twin.y)
    if trigger is not None:
        woken = trigger(split.x)
        assert woken.shape == split.x.shape
        assert torch.equal(split.x, twin.x), "the trigger changed its input in place"
        assert woken.min() >= split.low
        assert woken.max() <= split.high
        assert not torch.equal(woken, split.x), "the trigger does nothing"


@on_every_poison
def test_no_more_than_the_rate_is_changed(plugin: Plugin) -> None:
    """At rate 0 nothing; at the default something."""
    split = scene()
    if not options(plugin, RATE):
        pytest.skip("it has no rate")
    after, _ = plugin.function(split, random=keyed(0, split.ids), rate=RATE)
    assert 0 < int(changed(split, after).sum()) <= round(RATE * len(split))
    after, _ = plugin.function(split, random=keyed(0, split.ids), rate=0.0)
    assert not changed(split, after).any()


@on_every_poison
def test_a_seed_is_a_poisoning(plugin: Plugin) -> None:
    """Equal random numbers give an equal split, whatever the global random state."""
    split = scene()
    first, _ = plugin.function(split, random=keyed(4, split.ids), **options(plugin, RATE))
    torch.rand(3)
    again, _ = plugin.function(split, random=keyed(4, split.ids), **options(plugin, RATE))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)


@on_every_poison
@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_share_is_refused(plugin: Plugin, rate: float) -> None:
    """One line that names the rate."""
    split = scene()
    if not options(plugin, RATE):
        pytest.skip("it has no rate")
    with pytest.raises(BadOption, match="rate"):
        plugin.function(split, random=keyed(0, split.ids), rate=rate)
