"""What every inspection keeps to: one number a class, the same again, the model as it was."""

from typing import Any

import pytest
import torch

from trustml.access import frozen
from trustml.conformance._scenes import scene
from trustml.conformance.test_routes import seen
from trustml.errors import MissingPackage, NotApplicable
from trustml.randomness import keyed
from trustml.registry import Plugin, all_of

INSPECTIONS = [pytest.param(plugin, id=plugin.name) for plugin in all_of("inspection")]
SHORT = {"steps": 5, "draws": 2, "epochs": 2}


@pytest.mark.parametrize("plugin", INSPECTIONS)
def test_each_class_gets_a_suspicion(plugin: Plugin) -> None:
    """(K,) finite numbers, triggers in the box; asked twice they are the same.

    Weights and modes stay.
    """
    place = scene("image")
    split = seen(place)
    before = {name: tensor.clone() for name, tensor in place.model.state_dict().items()}
    short: dict[str, Any] = {o.name: SHORT[o.name] for o in plugin.options if o.name in SHORT}
    found = []
    try:
        for _ in range(2):
            with frozen(place.model):
                found.append(
                    plugin.function(place.model, split, random=keyed(2, split.ids), **short)
                )
            torch.rand(3)  # the global random state is nobody's business
    except (NotApplicable, MissingPackage) as reason:
        pytest.skip(str(reason))
    first, second = found
    assert first.suspicion.shape == (split.classes,)
    assert bool(first.suspicion.isfinite().all())
    assert torch.equal(first.suspicion, second.suspicion)
    if first.triggers is not None:
        assert first.triggers.shape == (split.classes, *split.x.shape[1:])
        assert split.low <= float(first.triggers.min()) <= float(first.triggers.max()) <= split.high
    assert all(torch.equal(t, before[name]) for name, t in place.model.state_dict().items())
    assert not place.model.training
