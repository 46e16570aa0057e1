"""Labels alone give a softmax regression up to shift and scale: borders are linear equations."""

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Access, Domain, Terms
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.stealing._borders import Borders, equations, null_vector, shift_free
from trustml.stealing.linear_labels import linear_labels
from trustml.symmetry import affine_difference
from trustml.victim import Service


def steal(victim: Service, random: torch.Generator, pool: Tensor | None = None, **options):
    pool = torch.empty(0, *victim.domain.shape) if pool is None else pool
    return linear_labels(victim, pool, lambda: None, random=random, **options)


def labels(model: nn.Module, shape: tuple[int, ...], classes: int, **terms) -> Service:
    return Service(model, Domain(shape, classes), Terms(Access.LABELS, **terms))


@pytest.mark.parametrize(("pool", "precision"), [(True, "float64"), (False, "float32")])
def test_trained_digits_fall_to_18000_labels(
    trained, digits, table, random, pool: bool, precision: str
) -> None:
    """584 unknowns of 20 bits are 11 680 answers of 1 bit at least; agreement is exact."""
    victim = labels(trained, (1, 8, 8), 10, precision=precision, budget=18_000)
    theft = steal(victim, random, digits.validation.x if pool else None)
    assert theft.queries <= 18_000
    assert theft.up_to == "shift and scale"
    error = affine_difference(table(theft.copy), table(trained), theft.up_to)
    assert error.relative <= 1e-5
    expected = theft.certificate["expected relative error"]
    assert expected / 2 < error.relative < expected * 2, "the certificate foretells the error"
    assert theft.certificate["every class covered"]
    uniform = torch.rand(2000, 1, 8, 8, generator=random)
    for x in (digits.test.x, uniform):
        assert torch.equal(theft.copy(x).argmax(1), trained(x).argmax(1))


@pytest.mark.parametrize("classes", [2, 3])
def test_fifty_bits_reach_float64(softmax, table, random, classes: int) -> None:
    model = softmax(8, classes, 1.0, seed=4)
    theft = steal(labels(model, (8,), classes, precision="float64"), random, bits=50)
    assert affine_difference(table(theft.copy), table(model), "shift and scale").relative < 1e-12


def test_each_bit_halves_the_error(softmax, table) -> None:
    """8 bits more: 256 times less, within a factor of 3 as other borders get chosen."""
    model, errors = softmax(8, 3, 1.0, seed=4), []
    for bits in (12, 20):
        draw = torch.Generator().manual_seed(1)
        theft = steal(labels(model, (8,), 3, precision="float64"), draw, bits=bits)
        error = affine_difference(table(theft.copy), table(model), "shift and scale")
        errors.append(error.relative)
    assert 256 / 3 < errors[0] / errors[1] < 256 * 3


def test_eight_bit_inputs_bound_the_precision(softmax, table, random) -> None:
    """A border lies within one level of one entry, 1/255: no more is to be had, and it is said."""
    model = softmax(8, 3, 1.0, seed=4)
    theft = steal(labels(model, (8,), 3, inputs="8-bit"), random, ratio=4.0)
    error = affine_difference(table(theft.copy), table(model), "shift and scale").relative
    assert error < 0.02
    assert error < 4 * theft.certificate["expected relative error"]


def test_a_small_budget_gets_fewer_bits(softmax, random) -> None:
    theft = steal(labels(softmax(8, 3, 1.0, seed=4), (8,), 3, budget=500), random)
    assert theft.queries <= 500
    assert 8 <= theft.certificate["bits"] < 20


def test_too_small_a_budget_is_refused_with_the_least_one(softmax, random) -> None:
    with pytest.raises(NotApplicable, match=r"at least 298 queries .* 297 are left"):
        # 2·40 starts, 10 checks, ⌈1.4·18⌉ = 26 borders of 8 bits
        steal(labels(softmax(8, 3, 1.0, seed=4), (8,), 3, budget=297), random)


def test_a_class_that_is_never_answered_is_named_and_never_answered(softmax, random) -> None:
    model = softmax(8, 4, 1.0, seed=4)
    with torch.no_grad():
        model.head.bias[2] = -100.0
    theft = steal(labels(model, (8,), 4), random)
    assert theft.certificate["classes never answered"] == [2]
    assert theft.up_to == "behaviour", "of that class nothing is known, so parameters are not"
    x = torch.rand(1000, 8, generator=random)
    agree = (theft.copy(x).argmax(1) == model(x).argmax(1)).double().mean()
    assert agree > 0.999
    assert theft.copy(x).isfinite().all()


def test_one_class_everywhere_is_refused(random) -> None:
    with pytest.raises(NotApplicable, match="saw class 1 alone"):
        steal(labels(lambda x: torch.tensor([[0.0, 1.0]]).expand(len(x), 2), (4,), 2), random)


def test_labels_by_chance_are_named(random) -> None:
    draw = torch.Generator().manual_seed(0)
    by_chance = labels(lambda x: torch.rand(len(x), 3, generator=draw), (4,), 3)
    with pytest.raises(MethodFailed, match="otherwise than before"):
        steal(by_chance, random)


def test_a_network_leaves_no_gap(random) -> None:
    """Its borders bend, so no parameters fit them all: the copy claims behaviour only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
    with torch.no_grad():
        net[0].bias.mul_(3)
        net[2].weight.mul_(5)
    theft = steal(labels(net, (6,), 3), random, ratio=4.0)
    assert theft.certificate["spectral gap"] < 10
    assert not theft.certificate["every class covered"]
    assert theft.up_to == "behaviour"


def test_options_out_of_range_are_refused(softmax, random) -> None:
    with pytest.raises(BadOption, match="at least 8 bits"):
        steal(labels(softmax(8, 3), (8,), 3), random, bits=4)


def test_border_equations_hold_for_the_true_parameters(softmax, table) -> None:
    """At (f_0 + c)/(…): a point where w_0·x + b_0 = w_2·x + b_2 by construction."""
    truth = table(softmax(3, 3, 1.0))
    gap = truth[0] - truth[2]
    x = torch.tensor([[0.3, -0.2, 0.0]]).double()
    x[0, 2] = -(gap[:2] @ x[0, :2] + gap[3]) / gap[2]
    frame = shift_free(3)
    border = Borders(x, torch.tensor([0]), torch.tensor([2]), torch.zeros_like(x))
    row = equations(border, frame)
    assert abs(float(row @ (frame.T @ truth).flatten())) < 1e-14


def test_null_vector_against_all_singular_vectors(random) -> None:
    rows = torch.randn(40, 12, generator=random).double()
    rows[:, 5] = rows[:, 3] + 1e-6 * rows[:, 5]
    vector, above, least = null_vector(rows)
    _, lengths, turn = torch.linalg.svd(rows)
    assert abs(float(vector @ turn[-1])) == pytest.approx(1, abs=1e-9)
    assert [above, least] == pytest.approx(lengths[-2:].tolist(), rel=1e-6)
