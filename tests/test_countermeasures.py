"""Each countermeasure does what its formula says, and what it is said to do to thieves."""

import math

import pytest
import torch
from torch import Tensor

from trustml import countermeasures
from trustml.contracts import Domain, Terms
from trustml.errors import BadOption, Refused
from trustml.victim import Service

P = torch.tensor([[0.7, 0.2, 0.1], [0.34, 0.33, 0.33]], dtype=torch.float64)


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_masks_that_show_less() -> None:
    exact = {"rtol": 0, "atol": 1e-15}
    shown = countermeasures.rounded(1)(P)
    torch.testing.assert_close(shown, torch.tensor([[0.7, 0.2, 0.1], [0.3] * 3]).double())
    top = torch.tensor([[0.7, 0, 0], [0.34, 0, 0]]).double()
    torch.testing.assert_close(countermeasures.top_only()(P), top, rtol=0, atol=1e-7)
    label = torch.tensor([[1.0, 0, 0], [1, 0, 0]]).double()
    torch.testing.assert_close(countermeasures.label_only()(P), label, **exact)


def test_noise_has_the_size_that_is_said() -> None:
    """Away from 0 nothing is cut; normalising takes one of K directions away: σ√((K−1)/K)."""
    p = torch.full((20_000, 4), 0.25, dtype=torch.float64)
    shown = countermeasures.noisy(0.01, draw())(p)
    assert float((shown - p).std()) == pytest.approx(0.01 * math.sqrt(3 / 4), rel=0.03)
    torch.testing.assert_close(shown.sum(1), torch.ones(20_000).double())


def test_reverse_sigmoid_by_hand() -> None:
    """At γ = 1, s(s⁻¹(y)) = y: y − β(y − ½), then over its sum 1 − β(1 − K/2)."""
    shown = countermeasures.reverse_sigmoid(0.4, 1.0)(P)
    expected = (P - 0.4 * (P - 0.5)) / (1 - 0.4 * (1 - 1.5))
    torch.testing.assert_close(shown, expected)
    same = countermeasures.reverse_sigmoid(0.0, 1.0)(P)
    torch.testing.assert_close(same, P)


def test_misinformation_turns_the_ranking_of_unsure_answers_round() -> None:
    shown = countermeasures.misinforming(0.5, 1000.0)(P)
    torch.testing.assert_close(shown[0], P[0], rtol=0, atol=1e-12)
    assert shown[1].argmax() != 0
    torch.testing.assert_close(shown[1].sort().values, P[1].sort().values)


def test_the_gate_near_data_lets_its_share_through() -> None:
    """Points of the same law: about 5 % lie beyond the 95 % limit; corners far away all do."""
    cloud = torch.randn(1000, 4, generator=draw())
    gate = countermeasures.near_data(cloud[:500], 0.05)
    refused = 0
    for x in cloud[500:]:
        try:
            gate(x[None], torch.zeros(1))
        except Refused:
            refused += 1
    assert 5 <= refused <= 60
    with pytest.raises(Refused, match="1 of 1 queries lie farther"):
        gate(torch.full((1, 4), 9.0), torch.zeros(1))


def test_an_account_closes() -> None:
    gate = countermeasures.account(5)
    gate(torch.zeros(5, 2), torch.zeros(5))
    with pytest.raises(Refused, match="6 queries, 5 are allowed"):
        gate(torch.zeros(1, 2), torch.zeros(1))


def watched(x: Tensor, **options) -> countermeasures.Monitor:
    monitor = countermeasures.Monitor(**options)
    monitor(x, torch.zeros(len(x), dtype=torch.long))
    return monitor


def test_the_monitor_sees_equal_steps_and_lets_uniform_queries_pass() -> None:
    """Distances of unit vectors are all equal, so not normal; those in a 64-cube nearly are."""
    assert watched(torch.eye(150)).alarm == 101
    assert watched(torch.rand(400, 64, generator=draw()), threshold=0.9).alarm is None
    assert watched(torch.eye(90)).alarm is None, "it needs 100 distances"
    with pytest.raises(Refused, match="query 101"):
        watched(torch.eye(150), refuses=True)


def test_a_monitor_watches_a_service() -> None:
    monitor = countermeasures.Monitor()
    victim = Service(lambda x: x @ torch.eye(3), Domain((3,), 3), Terms(), gates=(monitor,))
    victim(torch.rand(7, 3))
    assert monitor.queries == victim.queries == 7


@pytest.mark.parametrize(
    "make",
    [
        lambda: countermeasures.rounded(0),
        lambda: countermeasures.noisy(-1.0, draw()),
        lambda: countermeasures.reverse_sigmoid(-1.0),
        lambda: countermeasures.reverse_sigmoid(0.5, 0.0),
        lambda: countermeasures.misinforming(2.0),
        lambda: countermeasures.near_data(torch.zeros(1, 2)),
        lambda: countermeasures.near_data(torch.zeros(5, 2), 1.0),
        lambda: countermeasures.account(0),
        lambda: countermeasures.Monitor(1.0),
    ],
)
def test_numbers_that_mean_nothing_are_refused(make) -> None:
    with pytest.raises(BadOption):
        make()
