"""D+1 answers are D+1 columns: the copy is the victim's own table, to rounding."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Access, Domain, Terms
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.stealing._designs import hadamard
from trustml.stealing.linear_exact import linear_exact
from trustml.symmetry import affine_difference
from trustml.victim import Service

NONE = torch.empty(0, 1)


def steal(victim: Service, random: torch.Generator, **options):
    return linear_exact(victim, NONE, lambda: None, random=random, **options)


@pytest.mark.parametrize("inputs", ["free", "box", "8-bit"])
@pytest.mark.parametrize(
    ("answers", "precision", "error"),
    [
        (Access.LOGITS, "float64", 1e-12),
        (Access.LOGITS, "float32", 1e-6),
        (Access.PROBABILITIES, "float64", 1e-12),
        (Access.PROBABILITIES, "float32", 1e-5),
    ],
)
def test_784_inputs_fall_to_785_queries(
    softmax, table, random, answers: Access, precision: str, error: float, inputs: str
) -> None:
    """Each answer is one column plus the bias; the error is that of a few roundings."""
    model, domain = softmax(784), Domain((1, 28, 28), 10)
    victim = Service(model, domain, Terms(answers, precision=precision, inputs=inputs, budget=785))
    theft = steal(victim, random)
    assert theft.queries == victim.queries == 785
    assert theft.up_to == ("nothing" if answers == Access.LOGITS else "shift")
    assert affine_difference(table(theft.copy), table(model), theft.up_to).largest <= error
    x = torch.rand(500, 1, 28, 28, generator=random)
    logits = theft.copy(x)
    assert logits.dtype == torch.float32
    assert torch.equal(logits.argmax(1), model.double()(x.double()).argmax(1))


def test_probabilities_do_not_tell_the_shift(softmax, table, random) -> None:
    """softmax(f + u·x + v) = softmax(f): two victims, one set of answers, one copy."""
    model, shifted = softmax(6, 3).double(), softmax(6, 3).double()
    with torch.no_grad():
        shifted.head.weight.add_(2.0)
        shifted.head.bias.sub_(1.0)
    terms = Terms(Access.PROBABILITIES, precision="float64")
    copies = [
        table(steal(Service(m, Domain((6,), 3), terms), random).copy) for m in (model, shifted)
    ]
    torch.testing.assert_close(copies[0], copies[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(copies[0].sum(0), torch.zeros(7).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (2.0, 5.0), (-3.0, -1.0), (-0.5, 0.25)])
@pytest.mark.parametrize("noise", ["relative", "absolute"])
def test_any_box_will_do(softmax, table, random, low: float, high: float, noise: str) -> None:
    model, domain = softmax(12, 4, 1.0), Domain((3, 4), 4, low, high)
    for inputs in ("box", "8-bit"):
        victim = Service(model, domain, Terms(Access.LOGITS, precision="float64", inputs=inputs))
        theft = steal(victim, random, noise=noise)
        assert affine_difference(table(theft.copy), table(model), "nothing").largest < 1e-11


def test_where_the_softmax_saturates_steps_are_halved(softmax, table, random) -> None:
    """Weights of N(0, 300²): a whole step makes probabilities underflow in float64."""
    model = softmax(20, 5, 300.0)
    victim = Service(model, Domain((20,), 5), Terms(precision="float64"))
    theft = steal(victim, random)
    assert theft.queries > 21 + 2, "halved steps are asked about again, and counted"
    assert affine_difference(table(theft.copy), table(model), "shift").relative < 1e-13


def noisy(model: nn.Module, sigma: float) -> Callable[[Tensor], Tensor]:
    draw = torch.Generator().manual_seed(0)
    return lambda x: (
        model(x)
        + sigma * torch.randn(len(x), model.head.out_features, generator=draw, dtype=x.dtype)
    )


def test_against_noise_of_fixed_size_corners_are_better(softmax, table, random) -> None:
    """Var of a weight: 2σ² one at a time, 4σ²/N from N corners: N = 68 makes √34 in the error."""
    model, errors = softmax(64), {}
    for noise in ("relative", "absolute"):
        victim = Service(noisy(model, 0.1), Domain((64,), 10), Terms(Access.LOGITS))
        theft = steal(victim, random, noise=noise, checks=0)
        gap = (table(theft.copy) - table(model))[:, :-1]
        errors[noise] = float(gap.square().mean().sqrt())
    assert errors["relative"] == pytest.approx(0.1 * 2**0.5, rel=0.15)
    assert errors["absolute"] == pytest.approx(0.1 * 2 / 68**0.5, rel=0.15)


def test_repeats_average_noise(softmax, table, random) -> None:
    model = softmax(10, 3)
    victim = Service(noisy(model, 0.01), Domain((10,), 3), Terms(Access.LOGITS))
    theft = steal(victim, random, repeats=400, checks=0)
    assert theft.queries == 400 * 11
    rms = (table(theft.copy) - table(model))[:, :-1].square().mean().sqrt()
    assert float(rms) == pytest.approx(0.01 * (2 / 400) ** 0.5, rel=0.4)


def test_the_checks_foretell_what_rounding_allows(softmax, random) -> None:
    victim = Service(softmax(64), Domain((64,), 10), Terms(precision="float64"))
    theft = steal(victim, random, checks=5)
    found = theft.certificate
    assert (found["queries of the copy"], found["check queries"], theft.queries) == (65, 5, 70)
    assert found["check gap"] <= found["check gap that rounding explains"] < 1e-12


def test_a_network_is_not_taken_for_an_affine_map(random) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    victim = Service(net, Domain((6,), 3), Terms(Access.LOGITS))
    with pytest.raises(NotApplicable, match="no softmax regression"):
        steal(victim, random)


def test_a_victim_that_changes_its_mind_is_named(softmax, random) -> None:
    model, domain = softmax(6, 3), Domain((6,), 3)
    with pytest.raises(MethodFailed, match="answered its first query again"):
        steal(Service(noisy(model, 0.1), domain, Terms(Access.LOGITS)), random)


def test_too_small_a_budget_is_refused_with_the_least_one(softmax, random) -> None:
    victim = Service(softmax(64), Domain((64,), 10), Terms(budget=64))
    with pytest.raises(NotApplicable, match=r"at least 65 queries .* 64 are left"):
        steal(victim, random)
    assert victim.queries == 0


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (Terms(Access.LABELS), "needs probabilities or more, and this victim answers labels"),
        (Terms(Access.TOP1), "answers top1"),
        (Terms(decimals=3), "linear_rounded fits them"),
    ],
)
def test_too_little_access_is_refused(softmax, random, terms: Terms, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        steal(Service(softmax(6, 3), Domain((6,), 3), terms), random)


def test_probabilities_of_zero_are_refused(random) -> None:
    flat = Service(lambda x: torch.tensor([[0.0, 1e4]]).expand(len(x), 2), Domain((3,), 2))
    with pytest.raises(NotApplicable, match="the victim answers 0 even close"):
        steal(flat, random)


def test_options_that_mean_nothing_are_refused(softmax, random) -> None:
    victim = Service(softmax(6, 3), Domain((6,), 3))
    with pytest.raises(BadOption, match="repeats=0"):
        steal(victim, random, repeats=0)


@pytest.mark.parametrize("least", [1, 2, 4, 5, 12, 20, 65, 100])
def test_hadamard_matrices_are_orthogonal(least: int) -> None:
    """HᵀH = N·I defines them; the first column of ones is what the bias needs."""
    matrix = hadamard(least)
    assert torch.equal(matrix.T @ matrix, len(matrix) * torch.eye(len(matrix)).double())
    assert bool((matrix[:, 0] == 1).all())
    assert len(matrix) >= least
