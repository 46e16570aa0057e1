"""What every safeguard keeps to, in its stage: of the data, of the training, or in serving."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Classifier, Domain, Learns, Scaffold, Split, Training
from trustml.errors import MissingPackage, NotApplicable
from trustml.guarding import accepted, deployed
from trustml.randomness import keyed
from trustml.registry import Plugin, all_of, get
from trustml.splits import check_split
from trustml.training import fit

DOMAINS = {"images": Domain((1, 8, 8), 3), "vector": Domain((6,), 3, -2.0, 3.0)}
# What is learnt in many epochs is learnt in two, too, as far as these tests can tell.
SHORT = {"epochs": 2, "model": "mlp:epochs=2,hidden=[8]", "parts": 2, "members": 2, "draws": 4}


def of_stage(stage: str) -> Any:
    """Return the mark that runs a test for each safeguard of the stage, on each kind of input."""
    plugins = [p for p in all_of("safeguard") if p.facts["stage"] == stage]
    cases = [pytest.param(p, d, id=f"{p.name}-{d}") for p in plugins for d in DOMAINS]
    return pytest.mark.parametrize(("plugin", "place"), cases)


def samples(place: str, seed: int = 0, count: int = 60) -> Split:
    """Return three heaps, so that there is something to learn; the ids are in no order."""
    domain, draw = DOMAINS[place], torch.Generator().manual_seed(seed)
    y = torch.arange(count) % domain.classes
    share = (
        torch.rand(count, *domain.shape, generator=draw) * 0.5
        + y.view(-1, *[1] * len(domain.shape)) / 4
    )
    x = domain.low + (domain.high - domain.low) * share.clamp(0, 1)
    ids = torch.randperm(999, generator=draw)[:count] + 1000 * seed
    return Split(x, y, ids, domain.classes, domain.low, domain.high)


def fresh(domain: Domain) -> nn.Module:
    """Return a small model, its weights from torch's global numbers."""
    module: nn.Module = get("model", "mlp").function(domain, hidden=(8,))
    return module


def called(plugin: Plugin, *given: Any) -> Any:
    """Return what the safeguard returns, from the same random state each time, or skip."""
    options = {o.name: SHORT[o.name] for o in plugin.options if o.name in SHORT}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return plugin.function(*given, **options)
    except (NotApplicable, MissingPackage) as reason:
        pytest.skip(str(reason))


def check_classifier(module: nn.Module, x: Tensor) -> None:
    """Check logits, features, acceptance and gradient; the input stays as it is."""
    assert isinstance(module, Classifier)
    module.eval()
    before = x.clone()
    with torch.no_grad():
        logits, features, stood_by = module(x), module.features(x), accepted(module, x)
        assert torch.equal(logits, module(x)), "asked twice, it answers twice"
    assert logits.shape == (len(x), 3)
    assert logits.dtype == torch.float32
    assert bool(logits.isfinite().all())
    assert features.dim() == 2
    assert stood_by.shape == (len(x),)
    assert stood_by.dtype == torch.bool
    inputs = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(inputs).square().sum(), inputs)
    assert bool(gradient.isfinite().all())
    assert bool((gradient != 0).any()), "an attacker who knows the safeguard has a gradient"
    assert torch.equal(x, before), "the inputs were changed in place"


@of_stage("data")
def test_data_are_cleaned_the_same_each_time(plugin: Plugin, place: str) -> None:
    """What is left are samples that were there, in the box; the given split is not touched."""
    split, twin = samples(place), samples(place)
    left, again = called(plugin, split), called(plugin, split)
    check_split(left, plugin.name)
    assert left.domain == split.domain
    assert bool(torch.isin(left.ids, split.ids).all())
    assert torch.equal(split.x, twin.x)
    assert torch.equal(split.y, twin.y)
    assert torch.equal(left.ids, again.ids)
    assert torch.equal(left.y, again.y)


@of_stage("training")
def test_training_leaves_a_classifier(plugin: Plugin, place: str) -> None:
    """Fitted twice from one seed it is the same; its weights carry it into another build."""
    domain, train, held = DOMAINS[place], samples(place), samples(place, 1)
    states, how = [], Training(epochs=2, batch_size=16)
    for _ in range(2):
        scaffold = called(plugin, lambda: fresh(domain), domain)
        curve = fit(scaffold, train, held, how, 0)
        assert curve
        module = deployed(scaffold)
        assert not isinstance(module, Scaffold)
        check_classifier(module, held.x)
        states.append(module.state_dict())
    assert states[0]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    other = deployed(called(plugin, lambda: fresh(domain), domain)).eval()
    other.load_state_dict(states[0])
    with torch.no_grad():
        assert torch.equal(other(held.x), module(held.x))


@of_stage("serving")
def test_a_guard_serves_and_its_weights_are_all_of_it(plugin: Plugin, place: str) -> None:
    """It learns in place, leaves the model as it is, and comes back from its state_dict alone."""
    domain, train, held = DOMAINS[place], samples(place), samples(place, 1)
    model, twin = fresh(domain).eval(), fresh(domain).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    guard = called(plugin, model, domain)
    check_classifier(guard, held.x)
    learns = isinstance(guard, Learns)
    if learns:
        guard.learn(train, held, 0)
        check_classifier(guard, held.x)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    other = called(plugin, twin, domain).eval()
    other.load_state_dict(guard.state_dict())
    with torch.no_grad():
        assert torch.equal(other(held.x), guard(held.x))
        assert torch.equal(accepted(other, held.x), accepted(guard, held.x))


@of_stage("monitoring")
def test_a_monitor_watches_items_as_they_come(plugin: Plugin, place: str) -> None:
    """One finite suspicion an item, from the items so far alone; asked twice, the same again."""
    domain, held, items = DOMAINS[place], samples(place, 1), samples(place, 2).x
    model = fresh(domain).eval()
    twin = items.clone()
    options = {o.name: SHORT[o.name] for o in plugin.options if o.name in SHORT}
    try:
        watch = plugin.function(model, held, random=keyed(0, held.ids), **options)
        suspicion = watch(items, lambda x: x)
    except (NotApplicable, MissingPackage) as reason:
        pytest.skip(str(reason))
    assert suspicion.shape == (len(items),)
    assert bool(suspicion.isfinite().all())
    assert torch.equal(suspicion, watch(items, lambda x: x)), "it keeps something between calls"
    assert torch.allclose(watch(items[:17], lambda x: x), suspicion[:17]), "it sees the future"
    assert torch.equal(items, twin), "the items were changed in place"
