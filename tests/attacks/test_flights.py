"""Flights: nobody is lost when they are put together, and nobody's walk changes."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.attacks import _flights, _pursuit
from trustml.attacks._flights import Flight, joined, legs, regrouped, take
from trustml.attacks._pursuit import Best
from trustml.attacks.apgd import apgd
from trustml.attacks.momentum import momentum
from trustml.attacks.pgd import pgd
from trustml.contracts import Access
from trustml.randomness import keyed
from trustml.threats import Lp


@dataclass(frozen=True)
class Stand:
    """A walk with a tensor, a state within, and a count that all share."""

    point: Tensor
    best: Best
    step: int


def stand(rows: Tensor) -> Stand:
    values = rows.float()
    return Stand(values[:, None], Best(values[:, None] + 0.5, -values), 3)


@pytest.mark.parametrize("sizes", [(5, 3, 2), (4, 4, 1), (0, 0, 7), (1, 0, 1), (4, 4, 4)])
def test_regrouping_keeps_every_row_with_its_own_state(sizes: tuple[int, ...]) -> None:
    """Rows come from a known function, so each state can be told from its row."""
    parts = torch.arange(sum(sizes)).split(list(sizes))
    flights = [Flight(rows, stand(rows).best, stand(rows)) for rows in parts]
    found = regrouped(flights, 4)
    assert len(found) in (-(-sum(sizes) // 4), sum(size > 0 for size in sizes))
    assert torch.equal(torch.cat([flight.rows for flight in found]), torch.arange(sum(sizes)))
    for flight in found:
        truth = stand(flight.rows)
        assert torch.equal(flight.walk.point, truth.point)
        assert torch.equal(flight.walk.best.loss, truth.best.loss)
        assert torch.equal(flight.held.point, truth.best.point)
        assert flight.walk.step == 3


def test_taking_and_joining_are_each_others_inverse() -> None:
    whole = stand(torch.arange(6))
    parts = [take(whole, rows) for rows in torch.arange(6).split(4)]
    assert torch.equal(joined(parts).best.point, whole.best.point)


def test_legs_are_all_steps_in_their_order() -> None:
    for steps in range(1, 130):
        assert [step for leg in legs(steps) for step in leg] == list(range(steps))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)).requires_grad_(False)


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_the_size_of_a_flight_changes_nothing(
    attack: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flights of 16 rows, met and regrouped again and again, against one flight of all."""
    net, ids = network(), torch.arange(100)
    x = torch.rand(100, 6)
    y = net(x).argmax(1)
    found = []
    for rows in (16, 4096):
        monkeypatch.setattr(_flights, "_CPU_ROWS", rows)
        handed = Handed(net, Access.GRADIENTS, 100, block=16)  # type: ignore[arg-type]
        candidate = attack(  # type: ignore[operator]
            handed, x, y, Lp("linf", 0.08), random=keyed(0, ids), steps=25
        )
        found.append((candidate, handed.forwards, handed.backwards))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert 0 < int((net(found[0][0]).argmax(1) == y).sum()) < 100  # some leave, some stay


@pytest.mark.parametrize("attack", [pgd, apgd, momentum])
def test_the_won_that_fill_up_blocks_change_nothing_and_do_not_count(
    attack: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop that all who are won leave at once: the same points and the same passes."""
    net = network()
    x = torch.rand(100, 6)
    y, found = net(x).argmax(1), []
    for leave in (_flights.kept, lambda model, left, won: left):
        monkeypatch.setattr(_pursuit, "kept", leave)
        handed = Handed(net, Access.GRADIENTS, 100, block=(4, 16))  # type: ignore[arg-type]
        candidate = attack(  # type: ignore[operator]
            handed, x, y, Lp("linf", 0.08), random=keyed(0, torch.arange(100)), steps=25
        )
        found.append((candidate, handed.forwards, handed.backwards))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert len(found[0][1].unique()) > 1  # some leave, some stay


def test_no_more_than_a_flight_is_looked_at_and_the_fallen_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1 000 samples, of which a step across the box fools most: 4 flights begin, one goes on."""
    alive: list[int] = []
    begun = _pursuit.look

    def looking(model: object, point: Tensor, *rest: object) -> object:
        alive.append(len(point))
        return begun(model, point, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(_pursuit, "look", looking)
    net, threat, random = network(), Lp("linf", 1.0), keyed(0, torch.arange(1000))
    x = torch.rand(1000, 6)
    handed = Handed(net, Access.GRADIENTS, 1000, block=(8, 64, 256))  # type: ignore[arg-type]
    pgd(handed, x, net(x).argmax(1), threat, random=random, steps=12, step=1.0, loss="margin")
    assert alive[0] == max(alive) == 256
    assert len(alive) < 4 * 12  # a flight of its own for each would have looked so often
    assert alive[-1] < 256
