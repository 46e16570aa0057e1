"""The answered class and its probability are one equation a query: enough of them tell all."""

import pytest
import torch

from trustml.contracts import Access, Domain, Terms
from trustml.countering import countering
from trustml.errors import BadOption, NotApplicable
from trustml.stealing._borders import shift_free
from trustml.stealing._top_fit import slopes
from trustml.stealing.linear_top1 import linear_top1
from trustml.symmetry import affine_difference
from trustml.victim import Service


def steal(victim: Service, random: torch.Generator, **options):
    pool = torch.empty(0, *victim.domain.shape)
    return linear_top1(victim, pool, lambda: None, random=random, **options)


@pytest.mark.parametrize(
    ("inputs", "precision", "error"),
    [("box", "float64", 1e-12), ("free", "float64", 1e-12), ("box", "float32", 1e-5)],
)
def test_a_fifth_more_equations_than_unknowns_are_enough(
    softmax, table, random, inputs: str, precision: str, error: float
) -> None:
    """3·11 unknowns, 40 answers; rounding times the certified gain bounds the error."""
    model = softmax(10, 4, 0.3)
    terms = Terms(Access.TOP1, precision=precision, inputs=inputs)
    theft = steal(Service(model, Domain((10,), 4), terms), random)
    assert theft.queries == 40
    assert theft.certificate["solved"]
    assert theft.up_to == "shift"
    assert affine_difference(table(theft.copy), table(model), "shift").largest < error


@pytest.mark.slow
def test_64_inputs_and_10_classes_fall_to_702_queries(softmax, table, random) -> None:
    """1.2·585; weights from N(0, 1/D)."""
    model = softmax(64, 10, 0.125)
    terms = Terms(Access.TOP1, precision="float64")
    theft = steal(Service(model, Domain((64,), 10), terms), random)
    assert theft.queries == 702
    assert affine_difference(table(theft.copy), table(model), "shift").largest < 1e-10


def test_two_classes_need_as_many_queries_as_a_probability_vector(softmax, table, random) -> None:
    """With K = 2 the top probability is the vector, so D+1 answers are D+1 log-ratios."""
    model = softmax(10, 2, 0.3)
    terms = Terms(Access.TOP1, precision="float64")
    theft = steal(Service(model, Domain((10,), 2), terms), random, ratio=1.0)
    assert theft.queries == 11
    assert affine_difference(table(theft.copy), table(model), "shift").largest < 1e-10
    assert not theft.certificate["solved"], "without a spare equation nothing is certified"


def test_one_start_mixes_classes_up_and_says_so(softmax, table) -> None:
    """Least squares has other minima, where classes have changed places; the truth has no miss."""
    model = softmax(10, 6, 0.3)
    one, many = (
        steal(
            Service(model, Domain((10,), 6), Terms(Access.TOP1, precision="float64")),
            torch.Generator().manual_seed(7), starts=count,
        )
        for count in (1, 8)
    )  # fmt: skip
    assert not one.certificate["solved"]
    assert one.up_to == "behaviour"
    assert many.certificate["solved"]
    assert 1 < many.certificate["starts tried"] <= 8
    assert affine_difference(table(many.copy), table(model), "shift").largest < 1e-9


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_a_victim_that_is_sure_of_itself_falls_too(softmax, table, random, scale: float) -> None:
    """Weights from N(0, 1) on 20 inputs: top probabilities of 0.9 and more, and no miss."""
    model = softmax(20, 5, scale)
    victim = Service(model, Domain((20,), 5), Terms(Access.TOP1, precision="float64"))
    theft = steal(victim, random)
    assert theft.certificate["solved"]
    assert affine_difference(table(theft.copy), table(model), "shift").largest < 1e-10
    assert [part.queries for part in theft.earlier] == sorted({p.queries for p in theft.earlier})


def test_refused_midway_it_keeps_what_it_has(softmax, random) -> None:
    """An account of 90 closes before the 101 answers of 84 unknowns: a copy, nothing claimed."""
    gates = countering("account:queries=90", torch.zeros(2, 20), 0).gates
    victim = Service(
        softmax(20, 5), Domain((20,), 5), Terms(Access.TOP1, precision="float64"), gates=gates
    )
    theft = steal(victim, random)
    assert "account is closed" in theft.certificate["stopped"]
    assert not theft.certificate["solved"]
    assert theft.up_to == "behaviour"


def test_a_network_is_not_certified(random) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    theft = steal(Service(net, Domain((4,), 3), Terms(Access.TOP1)), random, ratio=3.0)
    assert not theft.certificate["solved"]
    assert theft.up_to == "behaviour"


def test_slopes_are_the_derivatives(softmax) -> None:
    """Against autograd."""
    frame, points = shift_free(3), torch.rand(5, 4).double()
    inner = torch.rand(2, 4).double().requires_grad_()
    classes = torch.tensor([0, 1, 2, 2, 0])
    logs, rows = slopes(points, classes, inner, frame)
    for row, log in enumerate(logs):
        (expected,) = torch.autograd.grad(log, inner, retain_graph=True)
        torch.testing.assert_close(rows[row].view(2, 4), expected)


def test_what_it_cannot_use_is_refused(softmax, random) -> None:
    model, domain = softmax(10, 4), Domain((10,), 4)
    for terms, message in (
        (Terms(Access.LABELS), "needs top1 or more"),
        (Terms(Access.TOP1, decimals=3), "3 decimals"),
        (Terms(Access.TOP1, budget=32), "at least 33 queries"),
    ):
        with pytest.raises(NotApplicable, match=message):
            steal(Service(model, domain, terms), random)
    with pytest.raises(BadOption, match=r"ratio=0\.5"):
        steal(Service(model, domain, Terms(Access.TOP1)), random, ratio=0.5)
