"""What every attribution keeps to: a map of its own for each input, and nothing left behind."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.conformance._scenes import BLOCK, Scene, scene
from trustml.contracts import Access
from trustml.errors import MissingPackage, NotApplicable
from trustml.registry import Plugin, all_of

ROUNDING = 1e-4
# Rows for comparison, which explain nothing.
REFERENCES = ("random", "blurred_random")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
on_every_attribution = pytest.mark.parametrize(
    "plugin", [pytest.param(plugin, id=plugin.name) for plugin in all_of("attribution")]
)
in_every_scene = pytest.mark.parametrize("place", ["image", "vector", "linear"])


def explained(plugin: Plugin, stage: Scene, rows: Tensor | None = None) -> Tensor:
    """Return the maps as a run would get them, or skip where the method does not apply.

    The background is black, so that the mean of training inputs and the zero input are the same.
    """
    rows = torch.arange(len(stage.x)) if rows is None else rows
    x, target = stage.x[rows].clone(), stage.y[rows].clone()
    maps: Tensor = _call(plugin, stage, stage.model, x, target)
    return maps


@on_every_attribution
@in_every_scene
def test_a_map_is_like_its_input(plugin: Plugin, place: str) -> None:
    """Of the same shape and type, finite, off the graph, and the same when asked again."""
    stage = scene(place)
    maps = explained(plugin, stage)
    assert isinstance(maps, Tensor), f"a tensor is expected, not {type(maps).__name__}"
    assert maps.shape == stage.x.shape, f"{tuple(maps.shape)} is not {tuple(stage.x.shape)}"
    assert maps.dtype == stage.x.dtype, f"{maps.dtype} is not {stage.x.dtype}"
    assert not maps.requires_grad, "the maps hang on a graph; detach them"
    assert bool(maps.isfinite().all()), "NaN or infinity in a map"
    assert torch.equal(maps, explained(plugin, stage)), "asked twice, it explains twice"


@on_every_attribution
@in_every_scene
def test_a_map_never_depends_on_its_batch(plugin: Plugin, place: str) -> None:
    """The same maps in another order and in parts, up to rounding."""
    stage = scene(place)
    together = explained(plugin, stage)
    rows = torch.arange(len(stage.x))
    for part in (rows.flip(0), rows[:4], rows[4:], rows[:1]):
        alone = explained(plugin, stage, part)
        far = (alone - together[part]).abs().amax() / together.abs().amax().clamp_min(1e-12)
        assert float(far) <= ROUNDING, (
            f"with the samples {part.tolist()} in the batch, maps differ by {float(far):.2g} of "
            f"the largest entry: draw the same random numbers for every row"
        )


@on_every_attribution
def test_everything_is_left_as_it_was(plugin: Plugin) -> None:
    """Inputs, weights, modes, gradients, hooks and the global random state."""
    stage = scene("image")
    model = stage.model
    model.body[1].train()  # a module of another mode than its parent, as in a part that is frozen
    model.head.bias.requires_grad_(False)
    x, target = stage.x.clone(), stage.y.clone()
    with unchanged(model):
        _call(plugin, stage, model, x, target)
    assert torch.equal(x, stage.x), "the inputs were changed in place"
    assert not x.requires_grad, "the inputs' requires_grad was left on"
    assert x.grad is None, "a gradient was left on the inputs"
    assert torch.equal(target, stage.y), "the targets were changed in place"


@on_every_attribution
@pytest.mark.parametrize("passes", [0, 1, 2])
def test_everything_is_left_as_it_was_after_an_error(plugin: Plugin, passes: int) -> None:
    """The same where the model breaks after some passes."""
    stage = scene("image")
    left = [passes]

    def broken(*_: Any) -> None:
        if not left[0]:
            raise ZeroDivisionError
        left[0] -= 1

    handle = stage.model.head.register_forward_hook(broken)
    with unchanged(stage.model):
        try:
            _call(plugin, stage, stage.model, stage.x.clone(), stage.y.clone())
        except ZeroDivisionError:
            pass
        finally:
            assert not stage.x.requires_grad
    handle.remove()


@on_every_attribution
def test_an_attribution_of_a_linear_model_sums_to_the_difference(plugin: Plugin) -> None:
    """Σ map = w·x, the logit's difference from the zero input, which no approximation can miss.

    Of a map in gradient space, Σ x · map. The rows for comparison explain nothing.
    """
    if plugin.name in REFERENCES:
        pytest.skip("a row for comparison explains nothing")
    stage = scene("linear")
    maps = explained(plugin, stage).double()
    parts = maps * stage.x if plugin.facts["influence"] else maps
    weight = stage.model.head.weight.detach()[stage.y]
    wanted = (weight * stage.x.flatten(1)).sum(1)
    off = float((parts.flatten(1).sum(1) - wanted).abs().max())
    assert off <= ROUNDING, f"the maps miss the difference by up to {off:.3g}"


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Fail if the block leaves the model or torch's global state another than it found it."""
    before, random_state = _state(model), torch.get_rng_state()
    yield
    after = _state(model)
    for what in before:
        assert after[what] == before[what], f"the model's {what} changed"
    assert torch.equal(torch.get_rng_state(), random_state), (
        "torch's global random numbers were used: fork them, and set a seed of your own"
    )
    assert torch.is_grad_enabled(), "gradients were switched off and not on again"


def _call(plugin: Plugin, stage: Scene, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    limited = plugin.facts["needs"] < Access.GRADIENTS
    handed = Handed(stage.model, plugin.facts["needs"], len(x), block=BLOCK) if limited else model
    background = torch.zeros(7, *x.shape[1:])
    try:
        maps: Tensor = plugin.function(handed, x, target, background)
    except (NotApplicable, MissingPackage) as reason:
        pytest.skip(str(reason))
    return maps


def _state(model: nn.Module) -> Mapping[str, Any]:
    """Return what an explanation must leave alone, in a form that compares."""
    modules, parameters = list(model.modules()), list(model.parameters())
    return {
        "weights or running statistics": {
            name: tensor.tolist() for name, tensor in model.state_dict().items()
        },
        "train or eval modes": [module.training for module in modules],
        "requires_grad": [parameter.requires_grad for parameter in parameters],
        "weight gradients": [parameter.grad is not None for parameter in parameters],
        "hooks": [len(getattr(module, hook)) for module in modules for hook in HOOKS],
        "attributes": [sorted(vars(module)) for module in modules],
    }
