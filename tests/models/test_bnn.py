"""Bayesian networks: what all posteriors promise, and what each of them refuses."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn.functional import softmax

from trustml.contracts import Bayesian, Domain, Split, Training
from trustml.errors import BadOption, NotApplicable, UnknownName
from trustml.models._bayesian import TEMPERATURES, Memory, log_mean_probability
from trustml.models.bnn import DEFAULTS, USES, Posterior, bnn
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import evaluate, fit

DOMAIN = Domain((3,), 4)
POSTERIORS = get_args(Posterior)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_draws_are_numbered_and_shared_by_the_batch(
    posterior: str, model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """Draw s is one network: the same however many draws are asked for, whatever is beside it."""
    module = model(posterior)
    fit(module, samples(), samples(20, 1), Training(epochs=2), 0)
    assert isinstance(module, Bayesian)
    x = samples(9, 2).x
    with torch.no_grad():
        five = module.sample_logits(x, 5)
        assert torch.equal(module.sample_logits(x, 3), five[:3])
        torch.testing.assert_close(module.sample_logits(x.flip(0), 5), five.flip(1))
        torch.testing.assert_close(module.sample_logits(x[2:3], 5), five[:, 2:3])
        many = module.sample_logits(x, 25)
    assert torch.equal(many[:5], five)
    assert float((five[0] - five[1]).abs().max()) > 1e-4


@pytest.mark.parametrize("posterior", sorted(set(POSTERIORS) - {"laplace_last_layer"}))
def test_an_answer_is_the_log_of_the_mean_probability(
    posterior: str, model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """Probabilities are averaged, not logits."""
    options = {"draws": 6} if "draws" in USES[posterior] else {"members": 6}
    module = model(posterior, **options)
    x = samples(9).x
    with torch.no_grad():
        mean = softmax(module.sample_logits(x, 6), 2).mean(0)
        torch.testing.assert_close(module(x).exp(), mean)
    assert torch.equal(
        log_mean_probability(torch.full((3, 2, 4), -2e4)).exp(), torch.full((2, 4), 0.25)
    )


LONG = {("variational", "mlp")} | {(name, "cnn") for name in POSTERIORS if name != "mc_dropout"}


@pytest.mark.parametrize(
    ("posterior", "body"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case in LONG else ())
        for case in product(POSTERIORS, ("mlp", "cnn"))
    ],
)
def test_learns_digits(
    digits: tuple[Split, Split, Split], posterior: str, body: str, model: Callable[..., nn.Module]
) -> None:
    """A short training reads nine of ten test digits, and no global random state is touched."""
    train, validation, test = digits
    options = {"members": 2} if "members" in USES[posterior] else {}
    module = model(posterior, body, train.domain, **options)
    before = torch.get_rng_state()
    epochs = 60 if posterior == "variational" else 15
    fit(module, train, validation, Training(epochs=epochs, batch_size=64, learning_rate=3e-3), 0)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        assert float((module(test.x).argmax(1) == test.y).float().mean()) > 0.9


def test_the_table_of_uses_is_complete() -> None:
    """Every posterior has its row, and every option in it is one."""
    assert set(USES) == set(POSTERIORS)
    assert set().union(*USES.values()) == set(DEFAULTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": "mc_dropout", "members": 3}, "no use for members"),
        ({"posterior": "ensemble", "draws": 3}, "no use for draws"),
        ({"posterior": "variational", "dropout": 0.5}, "no use for dropout"),
        ({"draws": 0}, "draws=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"posterior": "ensemble", "members": 1}, "members=1"),
        ({"posterior": "swag", "snapshots": 1}, "snapshots=1"),
        ({"posterior": "variational", "prior_scale": None}, "needs a prior_scale"),
        ({"posterior": "swag", "prior_scale": None}, "needs a prior_scale"),
        ({"posterior": "laplace", "prior_scale": 0.0}, "prior_scale=0.0"),
        ({"posterior": "laplace", "prior_scale": math.nan}, "prior_scale=nan"),
        ({"posterior": "variational", "temperature": -1.0}, "temperature=-1.0"),
        ({"body": "mlp:epochs=3"}, "set epochs on bnn itself"),
        ({"body": "mlp:weights=a.pt"}, "set weights on bnn itself"),
    ],
)
def test_options_without_use_or_out_of_range_are_refused(
    options: dict[str, object], message: str
) -> None:
    """One line names the option."""
    with pytest.raises(BadOption, match=message):
        bnn(DOMAIN, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 0.0}, "needs a network with dropout"),
        ({"body": "mlp:hidden=[]"}, "needs a network with dropout"),
        ({"body": "logistic"}, "cannot use logistic as its body"),
        ({"posterior": "laplace", "body": "mlp_by_hand"}, "cannot use mlp_by_hand"),
        ({"posterior": "laplace", "body": "bnn"}, "cannot use bnn"),
        ({"body": "cnn"}, "cnn needs images"),
    ],
)
def test_posteriors_that_a_body_cannot_have(options: dict[str, object], message: str) -> None:
    """No dropout layer, no chain of layers, no images: each is said."""
    with pytest.raises(NotApplicable, match=message):
        bnn(DOMAIN, **options)


def test_unknown_body_gives_the_nearest() -> None:
    """The body's name is a model's name."""
    with pytest.raises(UnknownName, match="'mlp'"):
        bnn(DOMAIN, body="mpl")


def test_memory_forgets_when_a_weight_or_the_question_changes() -> None:
    """The same weights and question are answered from memory, others anew."""
    module, memory, calls = nn.Linear(2, 2), Memory[int](), []

    def compute() -> int:
        calls.append(None)
        return len(calls)

    assert [memory(module, 1, compute), memory(module, 1, compute)] == [1, 1]
    assert memory(module, 2, compute) == 2
    with torch.no_grad():
        module.weight.mul_(2)
    assert memory(module, 2, compute) == 3
    module.load_state_dict(nn.Linear(2, 2).state_dict())
    assert memory(module, 2, compute) == 4
    module.double()
    assert memory(module, 2, compute) == 5


@pytest.mark.parametrize("posterior", ["laplace", "laplace_last_layer", "swag"])
def test_no_temperature_is_likelier_on_validation(
    posterior: str, model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """None takes the best of its grid and keeps it with the weights; a number stays."""
    module, asked = model(posterior), model(posterior, temperature=0.7)
    validation = samples(40, 1)
    for each in (module, asked):
        fit(each, samples(), validation, Training(epochs=8, learning_rate=0.01), 0)
    assert float(asked.temperature) == 0.7
    chosen, losses = float(module.temperature), []
    assert "temperature" in module.state_dict()
    for degree in TEMPERATURES:
        module.temperature.fill_(degree)
        losses.append(evaluate(module, validation)[0])
    assert chosen == TEMPERATURES[losses.index(min(losses))]
    assert max(losses) - min(losses) > 1e-4


def test_recipes_build_them_with_quoted_bodies() -> None:
    """The body's own options stand in quotes on the command line."""
    recipe = read_recipe('bnn:posterior=ensemble,members=2,body="cnn:channels=[2],kernel=3"')
    module = build(recipe, Domain((1, 8, 8), 10), 0)
    assert module.sample_logits(torch.rand(1, 1, 8, 8), 2).shape == (2, 1, 10)
    assert read_recipe(recipe.text) == recipe
    assert replace(recipe.training, epochs=1).epochs == 1
    assert evaluate(
        module, Split(torch.rand(3, 1, 8, 8), torch.zeros(3).long(), torch.arange(3), 10)
    )
