"""What every attack keeps to, on every norm that it declares."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.conformance._scenes import BLOCK, Scene, Small, call, scene, shortened
from trustml.contracts import Access, Measure, Norm
from trustml.registry import Plugin, all_of

ATTACKS = [
    pytest.param(plugin, norm, id=f"{plugin.name}-{norm}")
    for plugin in all_of("attack")
    for norm in plugin.facts["norms"]
]
on_every_norm = pytest.mark.parametrize(("plugin", "norm"), ATTACKS)
in_every_scene = pytest.mark.parametrize("place", ["image", "vector", "linear"])

SLACK = 1.25


@on_every_norm
@in_every_scene
def test_candidates_are_allowed(plugin: Plugin, norm: Measure, place: str) -> None:
    """Inside ball and box exactly: by not one unit in the last place outside."""
    stage = scene(place, norm)
    epsilon = stage.budgets[norm]
    _check(stage, norm, epsilon, stage.attacked(plugin, stage.threat(norm, epsilon)))


@on_every_norm
@in_every_scene
def test_targeted_candidates_are_allowed(plugin: Plugin, norm: Measure, place: str) -> None:
    """The same where y holds wanted classes."""
    if not plugin.facts["targeted"]:
        pytest.skip("this attack cannot aim at a class")
    stage = scene(place, norm)
    epsilon = stage.budgets[norm]
    threat = stage.threat(norm, epsilon, targeted=True)
    _check(stage, norm, epsilon, stage.attacked(plugin, threat))


@on_every_norm
@in_every_scene
def test_no_budget_is_no_change(plugin: Plugin, norm: Measure, place: str) -> None:
    """At epsilon 0 the ball holds nothing but the input."""
    stage = scene(place, norm)
    candidate = stage.attacked(plugin, stage.threat(norm, 0.0))
    assert torch.equal(candidate, stage.x), "at epsilon 0 the inputs themselves must come back"


@on_every_norm
@in_every_scene
def test_a_sample_never_depends_on_its_batch(plugin: Plugin, norm: Measure, place: str) -> None:
    """The same candidates, bit for bit, in another order, in parts, and each budget its own."""
    stage = scene(place, norm)
    share = torch.linspace(0.5, 1.5, len(stage.x), dtype=torch.float64)
    epsilon = stage.budgets[norm] * share
    threat = stage.threat(norm, epsilon.round() if norm == "l0" else epsilon)
    together = stage.attacked(plugin, threat)
    _check(stage, norm, threat.epsilon, together)
    rows = torch.arange(len(stage.x))
    for part in (rows.flip(0), rows[:4], rows[4:], rows[:1]):
        again = stage.attacked(plugin, threat, part)
        same = (again == together[part]).flatten(1).all(1)
        assert bool(same.all()), (
            f"with the samples {part.tolist()} in the batch, samples {part[~same].tolist()} get "
            "other candidates: take random numbers from `random`, and sum or average over one "
            "sample's entries only"
        )


@pytest.mark.slow
@on_every_norm
def test_the_same_holds_in_full_length(plugin: Plugin, norm: Measure) -> None:
    """Attacks that the other tests cut short, searching as long as by default."""
    if not shortened(plugin):
        pytest.skip("the other tests run it in full length")
    stage = scene("image", norm)
    threat = stage.threat(norm, stage.budgets[norm])
    together = stage.attacked(plugin, threat, full=True)
    _check(stage, norm, threat.epsilon, together)
    part = torch.arange(len(stage.x)).flip(0)[:5]
    assert torch.equal(stage.attacked(plugin, threat, part, full=True), together[part])


@on_every_norm
def test_everything_is_left_as_it_was(plugin: Plugin, norm: Measure) -> None:
    """Called as a plain function: inputs, weights, modes, gradients, hooks and global state."""
    stage = scene("image", norm)
    model = stage.model
    model.body[1].train()  # a module of another mode than its parent, as in a part that is frozen
    model.head.bias.requires_grad_(False)
    x, y, rows = stage.x.clone(), stage.y.clone(), torch.arange(len(stage.x))
    before, random_state = _state(model), torch.get_rng_state()
    limited = plugin.facts["needs"] < Access.GRADIENTS
    handed = Handed(model, plugin.facts["needs"], len(x), block=BLOCK) if limited else model
    call(plugin, handed, x, y, stage.threat(norm, stage.budgets[norm]), ids=rows)
    assert torch.equal(x, stage.x), "the inputs were changed in place"
    assert not x.requires_grad, "the inputs' requires_grad was left on"
    assert torch.equal(y, stage.y), "the labels were changed in place"
    after = _state(model)
    for what in before:
        assert after[what] == before[what], f"the model's {what} changed"
    assert torch.equal(torch.get_rng_state(), random_state), (
        "torch's global random numbers were used; take them from `random`"
    )
    assert torch.is_grad_enabled(), "gradients were switched off and not on again"


@on_every_norm
def test_reaches_the_optimum_of_a_linear_model(plugin: Plugin, norm: Norm) -> None:
    """With 1.25 times the least budget that suffices, every sample is misread.

    A demand on attacks with gradients that come with trustml; of a guest's the share is told.
    """
    if plugin.facts["needs"] < Access.GRADIENTS:
        pytest.skip("without gradients nothing is promised")
    if norm not in get_args(Norm):
        pytest.skip("of a measure that is no norm there is no optimum to compare with here")
    # What L0 needs is a matter of the walls; in the other norms a single step must do.
    stage = scene("linear" if norm == "l0" else "open")
    head, box = stage.model.head, (stage.low, stage.high)
    with torch.no_grad():
        y = stage.model(stage.x).argmax(1)
        weight, bias = head.weight.double(), head.bias.double()
        least = SLACK * minimal_distance(weight, bias, stage.x, y, norm, box)
    threat = stage.threat(norm, least.floor() if norm == "l0" else least)
    candidate = replace(stage, y=y).attacked(plugin, threat, full=True)
    with torch.no_grad():
        fooled = stage.model(candidate).argmax(1) != y
    share = f"{int(fooled.sum())} of {len(fooled)} samples misread at {SLACK} × the least budget"
    if not plugin.function.__module__.startswith("trustml."):
        pytest.skip(share)
    assert bool(fooled.all()), share


def _check(stage: Scene, norm: Measure, epsilon: float | Tensor, candidate: Any) -> None:
    """Check that candidates are finite, like x, and inside ball and box in float64."""
    x = stage.x
    assert isinstance(candidate, Tensor), f"a tensor is expected, not {type(candidate).__name__}"
    assert candidate.shape == x.shape, f"shape {tuple(candidate.shape)} is not {tuple(x.shape)}"
    assert candidate.dtype == x.dtype, f"{candidate.dtype} is not {x.dtype}"
    assert not candidate.requires_grad, "the candidates hang on a graph; detach them"
    assert bool(candidate.isfinite().all()), "NaN or infinity among the candidates"
    inside = stage.threat(norm, epsilon).contains(candidate, x)
    assert bool(inside.all()), (
        f"{int((~inside).sum())} of {len(x)} candidates are outside the ball or the box; "
        "end with `return threat.project(candidate, x)`"
    )


def _state(model: Small) -> Mapping[str, Any]:
    """Return what an attack must leave alone, in a form that compares."""
    modules, parameters = list(model.modules()), list(model.parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "weights or running statistics": {
            name: tensor.tolist() for name, tensor in model.state_dict().items()
        },
        "train or eval modes": [module.training for module in modules],
        "requires_grad": [parameter.requires_grad for parameter in parameters],
        "weight gradients (use torch.autograd.grad)": [
            parameter.grad is not None for parameter in parameters
        ],
        "hooks": [len(getattr(module, hook)) for module in modules for hook in hooks],
    }
