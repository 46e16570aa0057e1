"""What every model keeps to, before it has been trained, on each kind of input that it takes."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Bayesian, Classifier, Domain
from trustml.errors import MissingPackage, NotApplicable
from trustml.registry import Plugin, all_of

DOMAINS: Mapping[str, Domain] = {
    "points": Domain((2,), 2, -3.0, 3.0),
    "digits": Domain((1, 8, 8), 10),
    "images": Domain((1, 28, 28), 10, -1.0, 1.0),
    "colour": Domain((3, 32, 32), 10),
}
INPUTS = 5
# A batch's size decides which kernel runs; float32 logits of order 1 then differ by less than this.
ROUNDING = 1e-4

MODELS = [pytest.param(plugin, id=plugin.name) for plugin in all_of("model")]
on_every_model = pytest.mark.parametrize("plugin", MODELS)
on_every_domain = pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS.keys())


def fresh(plugin: Plugin, domain: Domain, seed: int = 0) -> nn.Module:
    """Return the untrained model of the seed, in evaluation mode; skip where it does not apply."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module: nn.Module = plugin.function(domain)
        except (NotApplicable, MissingPackage) as reason:
            pytest.skip(str(reason))
    return module.eval()


def inputs(domain: Domain) -> Tensor:
    """Return inputs (B, *S) all over the domain's box."""
    share = torch.rand(INPUTS, *domain.shape, generator=torch.Generator().manual_seed(1))
    return domain.low + (domain.high - domain.low) * share


@on_every_model
def test_it_takes_some_kind_of_input(plugin: Plugin) -> None:
    """A model that says NotApplicable to every domain would pass all the other tests."""
    taken = []
    for name, domain in DOMAINS.items():
        try:
            taken.append(name if plugin.function(domain) is not None else "")
        except MissingPackage as reason:
            pytest.skip(str(reason))
        except NotApplicable:
            continue
    assert taken, f"it takes none of {', '.join(DOMAINS)}"


@on_every_model
@on_every_domain
def test_it_answers_finite_logits_and_features(plugin: Plugin, domain: Domain) -> None:
    """Logits (B, K) and features (B, D), float32; the inputs stay as they were."""
    model, x = fresh(plugin, domain), inputs(domain)
    assert isinstance(model, nn.Module)
    assert isinstance(model, Classifier), "a classifier needs a method features(x)"
    before = x.clone()
    with torch.no_grad():
        logits, features = model(x), model.features(x)
    assert logits.shape == (INPUTS, domain.classes)
    assert features.dim() == 2
    assert len(features) == INPUTS
    assert logits.dtype == features.dtype == torch.float32
    assert bool(logits.isfinite().all() and features.isfinite().all())
    assert torch.equal(x, before), "the inputs were changed in place"


@on_every_model
@on_every_domain
def test_it_answers_the_same_again(plugin: Plugin, domain: Domain) -> None:
    """In evaluation mode an answer depends on the input alone: not on chance, not on the batch."""
    model, x = fresh(plugin, domain), inputs(domain)
    with torch.no_grad():
        logits = model(x)
        assert torch.equal(logits, model(x)), "asked twice, it answers twice"
        parts = torch.cat([model(x[:2]), model(x[2:])])
    assert torch.allclose(logits, parts, atol=ROUNDING, rtol=ROUNDING)


@on_every_model
@on_every_domain
def test_it_has_a_gradient(plugin: Plugin, domain: Domain) -> None:
    """The gradient with respect to the input is there and finite, for attacks and explanations."""
    model, x = fresh(plugin, domain), inputs(domain).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x)
    assert bool(gradient.isfinite().all())


@on_every_model
@on_every_domain
def test_a_seed_is_a_model_and_weights_are_all_of_it(plugin: Plugin, domain: Domain) -> None:
    """Built twice from one seed it is the same; its state_dict carries it into another build."""
    model, twin, other = (fresh(plugin, domain, seed) for seed in (0, 0, 1))
    x = inputs(domain)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, twin.state_dict()[name]), f"{name} differs from build to build"
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model(x), other(x)), "something that decides is not in the state_dict"


@on_every_model
@on_every_domain
def test_a_bayesian_model_numbers_its_draws(plugin: Plugin, domain: Domain) -> None:
    """Draw number s is the same network however many are asked for."""
    model, x = fresh(plugin, domain), inputs(domain)
    if not isinstance(model, Bayesian):
        pytest.skip("not a Bayesian model")
    with torch.no_grad():
        few, more = model.sample_logits(x, 2), model.sample_logits(x, 3)
    assert few.shape == (2, INPUTS, domain.classes)
    assert torch.equal(few, more[:2])
    assert bool(more.isfinite().all())
