"""What every route keeps to: inputs like those it is given, in the box, the same again."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from trustml.access import frozen
from trustml.conformance._scenes import Scene, scene
from trustml.contracts import Random, Split
from trustml.errors import MissingPackage, NotApplicable
from trustml.randomness import keyed
from trustml.registry import Plugin, all_of

ROUTES = [pytest.param(plugin, id=plugin.name) for plugin in all_of("route")]
on_every_route = pytest.mark.parametrize("plugin", ROUTES)
Tampering = Callable[[Tensor, Tensor, Random], Tensor]
# What is prepared in many steps is prepared in few, too, as far as these tests can tell.
SHORT = {"steps": 5, "draws": 2, "queries": 6}


def seen(place: Scene) -> Split:
    """Return other images than the scene's own, with the labels that the model gives."""
    draw = torch.Generator().manual_seed(8)
    x = place.low + (place.high - place.low) * torch.rand(24, *place.x.shape[1:], generator=draw)
    with torch.no_grad():
        y = place.model(x).argmax(1)
    return Split(x, y, torch.arange(24) + 500, 4, place.low, place.high)


def prepared(plugin: Plugin, place: Scene) -> Tampering:
    """Return the prepared tampering, short of steps, or skip."""
    options: dict[str, Any] = {o.name: SHORT[o.name] for o in plugin.options if o.name in SHORT}
    split = seen(place)
    try:
        with frozen(place.model):
            tampering: Tampering = plugin.function(
                place.model, split, random=keyed(2, split.ids), **options
            )
    except (NotApplicable, MissingPackage) as reason:
        pytest.skip(str(reason))
    return tampering


@on_every_route
def test_what_comes_out_is_mail(plugin: Plugin) -> None:
    """Shape, type and box are kept; what went in is not changed in place; something is changed."""
    place = scene("image")
    tampering = prepared(plugin, place)
    before, ids = place.x.clone(), torch.arange(len(place.x))
    after = tampering(place.x, place.y, keyed(2, ids))
    assert after.shape == place.x.shape
    assert after.dtype == place.x.dtype
    assert bool(after.isfinite().all())
    assert place.low <= float(after.min())
    assert float(after.max()) <= place.high
    assert torch.equal(place.x, before)
    assert not torch.equal(after, before)


@on_every_route
def test_the_model_is_left_as_it_was(plugin: Plugin) -> None:
    """Weights, modes and gradients stay."""
    place = scene("image")
    before = {name: tensor.clone() for name, tensor in place.model.state_dict().items()}
    prepared(plugin, place)
    assert all(torch.equal(t, before[name]) for name, t in place.model.state_dict().items())
    assert not place.model.training
    assert all(weights.grad is None for weights in place.model.parameters())


@on_every_route
def test_an_item_is_tampered_with_for_itself(plugin: Plugin) -> None:
    """The same item in another company is the same again, and preparing twice is preparing once."""
    place, ids = scene("image"), torch.arange(11)
    first, again = prepared(plugin, place), prepared(plugin, place)
    whole = first(place.x, place.y, keyed(2, ids))
    rows = torch.tensor([7, 2, 5])
    part = again(place.x[rows], place.y[rows], keyed(2, ids[rows]))
    assert torch.allclose(part, whole[rows], atol=1e-6)


@on_every_route
def test_what_has_no_two_axes_is_refused_or_served(plugin: Plugin) -> None:
    """On vectors a route that needs a picture says so in one line, and another does its work."""
    place = scene("vector")
    draw = torch.Generator().manual_seed(8)
    x = place.low + (place.high - place.low) * torch.rand(24, 5, generator=draw)
    split = Split(x, place.model(x).argmax(1), torch.arange(24), 3, place.low, place.high)
    short = {o.name: SHORT[o.name] for o in plugin.options if o.name in SHORT}
    try:
        tampering = plugin.function(place.model, split, random=keyed(2, split.ids), **short)
        after = tampering(place.x, place.y, keyed(2, torch.arange(11)))
    except (NotApplicable, MissingPackage) as reason:
        pytest.skip(f"refused: {reason}")
    assert after.shape == place.x.shape
