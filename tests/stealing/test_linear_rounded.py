"""Rounded probabilities at many inputs still give the behaviour away."""

import pytest
import torch

from trustml.contracts import Access, Domain, Terms
from trustml.errors import BadOption, NotApplicable
from trustml.stealing.linear_rounded import linear_rounded
from trustml.symmetry import affine_difference
from trustml.victim import Service


def steal(victim: Service, random: torch.Generator, pool=None, **options):
    pool = torch.empty(0, *victim.domain.shape) if pool is None else pool
    return linear_rounded(victim, pool, lambda: None, random=random, **options)


@pytest.mark.parametrize("pool", [True, False])
def test_two_decimals_and_325_queries_give_98_percent(trained, digits, random, pool: bool) -> None:
    """The figure of the same protocol elsewhere: 5·65 queries, 98.9 % of test digits alike."""
    victim = Service(trained, Domain((1, 8, 8), 10), Terms(decimals=2))
    theft = steal(victim, random, digits.validation.x if pool else None)
    assert theft.queries == 325
    x = digits.test.x
    agreement = (theft.copy(x).argmax(1) == trained(x).argmax(1)).double().mean()
    assert agreement >= 0.98
    assert theft.up_to == "behaviour"


def test_a_decimal_more_is_a_smaller_error(softmax, table, random) -> None:
    """Errors of a tenth the size; the fit is linear in them to first order."""
    model, errors = softmax(12, 4, 0.5), []
    for decimals in (2, 3, 4):
        victim = Service(model, Domain((12,), 4), Terms(decimals=decimals, precision="float64"))
        theft = steal(victim, torch.Generator().manual_seed(1), l2=0.0)
        errors.append(affine_difference(table(theft.copy), table(model), "shift").relative)
    assert 4 < errors[0] / errors[1] < 25
    assert 4 < errors[1] / errors[2] < 25


def test_without_rounding_the_fit_finds_the_parameters(softmax, table, random) -> None:
    """Cross-entropy to p is least at p itself, so only the solver's tolerance is left."""
    model = softmax(6, 3, 0.5)
    theft = steal(Service(model, Domain((6,), 3), Terms(precision="float64")), random, l2=0.0)
    assert affine_difference(table(theft.copy), table(model), "shift").relative < 1e-4


def test_what_it_cannot_use_is_refused(softmax, random) -> None:
    model, domain = softmax(6, 3), Domain((6,), 3)
    with pytest.raises(NotApplicable, match="needs probabilities or more"):
        steal(Service(model, domain, Terms(Access.TOP1, decimals=2)), random)
    with pytest.raises(NotApplicable, match="at least 7 queries"):
        steal(Service(model, domain, Terms(decimals=2, budget=6)), random)
    with pytest.raises(BadOption, match="ratio and steps"):
        steal(Service(model, domain, Terms(decimals=2)), random, ratio=0.5)
