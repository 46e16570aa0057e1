"""The multi-layer perceptron."""

from typing import get_args

import pytest
import torch
from torch import nn

from trustml.contracts import Domain, Split
from trustml.errors import BadOption
from trustml.models._network import ACTIVATIONS, Activation
from trustml.models.mlp import mlp
from trustml.recipes import read_recipe
from trustml.training import evaluate, fit, seeded

Digits = tuple[Split, Split, Split]


def test_is_the_chain_of_layers_it_says() -> None:
    """3072-1000-1000-10 with ReLU: the logits of a plain Sequential with the same weights."""
    module = mlp(Domain((3, 32, 32), 10), hidden=(1000, 1000))
    linear = [layer for layer in module.body if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (3072, 1000), (1000, 1000), (1000, 10),
    ]  # fmt: skip
    x = torch.rand(2, 3, 32, 32)
    hidden = x.flatten(1)
    for layer in linear[:-1]:
        hidden = (hidden @ layer.weight.T + layer.bias).clamp_min(0)
    torch.testing.assert_close(module.features(x), hidden)
    torch.testing.assert_close(module(x), hidden @ module.head.weight.T + module.head.bias)


def test_without_hidden_layers_it_is_linear() -> None:
    """hidden=[] leaves the head alone, whose features are the inputs."""
    module = mlp(Domain((2, 3), 4), hidden=())
    x = torch.rand(5, 2, 3)
    assert torch.equal(module.features(x), x.flatten(1))
    assert sum(p.numel() for p in module.parameters()) == 6 * 4 + 4


def test_the_box_is_mapped_to_the_unit_box() -> None:
    """Inputs in [-3, 5] are read as those in [0, 1] are by a model of the unit box."""
    wide, unit = (mlp(Domain((4,), 3, low, high)) for low, high in ((-3.0, 5.0), (0.0, 1.0)))
    wide.load_state_dict(unit.state_dict())
    x = torch.rand(6, 4)
    torch.testing.assert_close(wide(8 * x - 3), unit(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(wide.features(8 * x - 3), unit.features(x), atol=1e-5, rtol=1e-4)


def test_dropout_changes_no_weight_names() -> None:
    """Weights trained with dropout load without it, and the other way round."""
    domain = Domain((4,), 3)
    wet, dry = mlp(domain, dropout=0.5), mlp(domain)
    dry.load_state_dict(wet.state_dict())
    x = torch.rand(6, 4)
    assert torch.equal(wet.eval()(x), dry.eval()(x))
    with seeded(0):
        assert not torch.equal(wet.train()(x), dry(x))


def test_every_activation_has_its_layer() -> None:
    """The names on the command line and the layers are the same set."""
    assert set(ACTIVATIONS) == set(get_args(Activation))


def test_digits_in_default_options(digits: Digits) -> None:
    """At least 95 % on the test digits with nothing set."""
    train, validation, test = digits
    recipe = read_recipe("mlp")
    with seeded(0):
        module = mlp(train.domain, **recipe.own)
    fit(module, train, validation, recipe.training, 0)
    assert evaluate(module, test)[1] >= 0.95


@pytest.mark.parametrize("options", [{"hidden": (3, 0)}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    """The message names the option."""
    with pytest.raises(BadOption, match=next(iter(options))):
        mlp(Domain((4,), 3), **options)
