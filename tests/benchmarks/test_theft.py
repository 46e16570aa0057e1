"""The exam of a theft against copies whose distance to the victim is written down."""

import copy

import pytest
import torch
from torch import nn

from trustml.benchmarks.theft import (
    affine_table,
    answers,
    curve,
    examine,
    hidden_layer,
    least_queries,
    queries_to,
    stages,
)
from trustml.contracts import Access, Domain, Score, Split, Symmetry, Terms, Theft
from trustml.errors import MethodFailed

DOMAIN = Domain((2, 2), 3, -1.0, 1.0)


def affine() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.arange(12.0).view(3, 4).cos())
        net[1].bias.copy_(torch.tensor([0.1, -0.2, 0.0]))
    return net


def relu() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def split(model: nn.Module) -> Split:
    x = torch.rand(50, 2, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Split(x, model(x).argmax(1), torch.arange(50), 3, -1.0, 1.0)


def exam(victim: nn.Module, stolen: nn.Module, up_to: Symmetry, queries: int = 10):
    theft = Theft(stolen, {}, queries, up_to)
    return examine(victim, theft, split(victim), Terms(Access.LOGITS))


def test_a_perfect_copy() -> None:
    found = exam(affine(), affine(), "nothing")
    assert {name: score.value for name, score in found.scores.items()} == {
        "agreement (test)": 1.0, "agreement (uniform)": 1.0, "accuracy of the copy": 1.0,
    }  # fmt: skip
    assert found.parameters is not None
    assert (found.parameters.largest, found.worst_gap) == (0.0, 0.0)
    assert (found.least, found.ratio) == (5, 2.0), "D+1 logits, 10 queries"
    assert all(score.better == "lower" for score in found.scores.values())


def test_a_bias_off_by_a_half_is_seen_as_such_and_a_shift_is_not() -> None:
    off, shifted = affine(), affine()
    with torch.no_grad():
        off[1].bias[0] += 0.5
        shifted[1].bias += 0.5
    found = exam(affine(), off, "nothing")
    assert found.parameters is not None
    assert found.parameters.largest == pytest.approx(0.5)
    assert found.worst_gap == pytest.approx(0.5)
    assert exam(affine(), shifted, "nothing").worst_gap == pytest.approx(0.5)
    assert exam(affine(), shifted, "shift").worst_gap == pytest.approx(0, abs=1e-7)


def test_a_copy_that_turns_two_classes_round_agrees_on_the_third_alone() -> None:
    victim, turned = affine(), affine()
    with torch.no_grad():
        turned[1].weight.copy_(victim[1].weight[[1, 0, 2]])
        turned[1].bias.copy_(victim[1].bias[[1, 0, 2]])
    found = exam(victim, turned, "behaviour")
    share = float((split(victim).y == 2).double().mean())
    assert found.scores["agreement (test)"].value == pytest.approx(share)
    assert found.parameters is None
    assert found.worst_gap is None


def test_units_in_another_order_and_scale_are_the_same_network() -> None:
    victim, other = relu(), relu()
    order = torch.tensor([4, 2, 0, 1, 3])
    with torch.no_grad():
        for part in (other[1].weight, other[1].bias):
            part.copy_(part[order].clone() * 2)
        other[3].weight.copy_(other[3].weight[:, order].clone() / 2)
    found = exam(victim, other, "units")
    assert found.parameters is not None
    assert found.parameters.largest < 1e-6
    assert found.least == 13, "5·(4+1) + 3·(5+1) − 5 = 38 numbers, 3 an answer"


def test_what_a_module_is_gets_read_off_it() -> None:
    table = affine_table(affine(), DOMAIN)
    assert table is not None
    torch.testing.assert_close(table[:, :-1].float(), affine()[1].weight.detach())
    assert affine_table(relu(), DOMAIN) is None
    net = hidden_layer(relu(), DOMAIN)
    assert net is not None
    torch.testing.assert_close(net.inner[:, :-1].float(), relu()[1].weight.detach())
    tanh = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    assert hidden_layer(tanh, DOMAIN) is None
    assert hidden_layer(affine(), DOMAIN) is None


@pytest.mark.parametrize(
    ("answers", "least"),
    [(Access.LOGITS, 5), (Access.PROBABILITIES, 5), (Access.TOP1, 10), (Access.LABELS, 9)],
)
def test_the_least_queries_of_a_softmax_regression(answers: Access, least: int) -> None:
    """K(D+1)/K, (K−1)(D+1)/(K−1), (K−1)(D+1)/1, (K−1)(D+1) − 1."""
    assert least_queries(affine(), DOMAIN, Terms(answers)) == least


def test_a_curve_and_the_queries_that_it_takes() -> None:
    victim, wrong = affine(), copy.deepcopy(affine())
    with torch.no_grad():
        wrong[1].weight.neg_()
        wrong[1].bias.neg_()
    theft = Theft(victim, {}, 30, earlier=(Theft(victim, {}, 20), Theft(wrong, {}, 10)))
    x = split(victim).x
    labels = answers(victim, x).argmax(1)
    points = curve(*stages(theft, x), labels)
    assert [queries for queries, _ in points] == [10, 20, 30]
    assert [score.value for _, score in points] == [0.0, 1.0, 1.0], "−f is highest where f is least"
    assert queries_to(points, 0.99) == 20
    assert queries_to([(5, Score(0.5, 0, 1, "lower"))], 0.99) is None


def test_a_copy_of_another_shape_is_named() -> None:
    with pytest.raises(MethodFailed, match=r"\(50, 4\) where the victim answers \(50, 3\)"):
        exam(affine(), nn.Flatten(), "behaviour")
