"""JSMA against a plain loop over all pairs, as the paper writes it, and linear models."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from tests.attacks.two_classes import IDS, linear
from trustml.attacks._nearest import at_home
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks.jsma import _advance, _begin, _most_salient, jsma
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

EVERYWHERE = Lp("l0", float("inf"))


def jacobian(model: nn.Module, point: Tensor) -> Tensor:
    """Return the slopes (K, D) of all logits at one point (D,)."""
    return torch.autograd.functional.jacobian(lambda z: model(z[None])[0], point)


def papernot(model: nn.Module, x: Tensor, target: int, pairs: int) -> Tensor:
    """Return the last point of algorithm 2 with θ = 1: entries only rise, each just once."""
    point, free = x.clone(), set(range(len(x)))
    for _ in range(pairs):
        if int(model(point[None]).argmax()) == target:
            break
        slopes = jacobian(model, point)
        best, chosen = 0.0, None
        for p, q in combinations(sorted(free), 2):
            rise = float(slopes[target, p] + slopes[target, q])
            others = float(slopes.sum(0)[[p, q]].sum() - rise)
            if rise > 0 and others < 0 and -rise * others > best:
                best, chosen = -rise * others, (p, q)
        if chosen is None:
            break
        point[list(chosen)] = 1
        free -= set(chosen)
    return point


@pytest.mark.parametrize("seed", range(6))
def test_the_walk_of_the_paper(seed: int) -> None:
    """Black inputs can only rise, all by the same way: the same points as all pairs in a loop.

    The paper's pair may hold an entry whose target falls; here that would go to its other wall,
    where it stands already. Weights that are positive for the target leave no such entry.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 9), nn.Softplus(), nn.Linear(9, 4)).double()
    with torch.no_grad():
        model[0].weight.abs_()
        model[2].weight[2].abs_()
        model[2].bias[0] += 1.5
    x = torch.zeros(1, 12).double()
    expected = papernot(model, x[0], 2, 4)
    threat = Lp("l0", 12.0, targeted=True)
    found = jsma(
        model, x, torch.tensor([2]), threat, random=keyed(0, IDS[:1]), steps=4,
        of="logits", tries=0,
    )  # fmt: skip
    won = int(model(expected[None]).argmax()) == 2
    assert torch.equal(found[0], expected if won else x[0])
    assert seed != 0 or won


@pytest.mark.parametrize("seed", range(20))
def test_the_pair_is_the_best_of_all(seed: int) -> None:
    """Brute force over all pairs of free entries; where none qualifies, that is said."""
    generator = torch.Generator().manual_seed(seed)
    rise, fall = torch.randn(2, 5, 9, generator=generator).double()
    free = torch.rand(5, 9, generator=generator) < 0.7
    pairs, valid = _most_salient(rise, fall, free)
    for row in range(5):
        scores = {
            pair: float(rise[row, list(pair)].sum() * fall[row, list(pair)].sum())
            for pair in combinations(free[row].nonzero()[:, 0].tolist(), 2)
            if rise[row, list(pair)].sum() > 0 and fall[row, list(pair)].sum() > 0
        }
        assert bool(valid[row]) == bool(scores)
        if scores:
            assert tuple(sorted(pairs[row].tolist())) == max(scores, key=lambda pair: scores[pair])


def test_an_entry_is_moved_just_once() -> None:
    """The first pair is 3 and 2; with all slopes turned the other two go, though 3 would gain most.

    Who has won stays.
    """
    x, slope = torch.full((2, 4), 0.5), torch.tensor([[1.0, 2.0, 3.0, 4.0]]).repeat(2, 1)
    quarry = Quarry(x, torch.zeros(2, dtype=torch.long), EVERYWHERE, keyed(0, IDS[:2]))
    walk, nobody = _begin(quarry, at_home(lambda z: z[:, :2], quarry)), IDS[:2] < 0
    for way, expected in ((1, [0.5, 0.5, 1.0, 1.0]), (-1, [0.0, 0.0, 1.0, 1.0])):
        both = torch.stack([way * slope, -way * slope], 1)
        seen = Seen(walk.point, torch.zeros(2, 2), torch.zeros(2), both, nobody)
        won = _advance(walk, replace(seen, reached=~nobody), quarry, at_home(lambda z: z, quarry))
        assert torch.equal(won.point, walk.point)
        walk = _advance(walk, seen, quarry, at_home(lambda z: z, quarry))
        assert walk.point.tolist() == [expected] * 2
    assert not walk.free.any()


@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_two_classes(aimed: bool) -> None:
    """Closed form: the entries that gain most, as many as need be; one too many is put back."""
    model, x, y = linear((1, 5, 6))
    weight = model[1].weight.detach()
    rise = (weight[1 - y] - weight[y]).double()
    gain = torch.maximum(rise * (1 - x.flatten(1)), -rise * x.flatten(1))
    lead = model(x).gather(1, y[:, None])[:, 0] - model(x).gather(1, 1 - y[:, None])[:, 0]
    climbed = gain.sort(dim=1, descending=True).values.cumsum(1)
    least = 1 + (climbed <= lead[:, None]).sum(1)
    threat = Lp("l0", float("inf"), targeted=aimed)
    found = jsma(model, x, 1 - y if aimed else y, threat, random=keyed(0, IDS))
    assert torch.equal(distance(found, x, "l0"), least.double())
    paired = jsma(model, x, 1 - y if aimed else y, threat, random=keyed(0, IDS), tries=0)
    assert torch.equal(distance(paired, x, "l0"), (least + least % 2).double())


def test_more_targets_are_never_farther() -> None:
    """The nearest of several walks counts, the first of which is the one alone."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(40, 12), nn.Tanh(), nn.Linear(12, 6)).double()
    x = torch.rand(30, 40).double()
    y, ids = model(x).argmax(1), torch.arange(30)
    with torch.no_grad():
        model[2].bias[y[0]] += 0.35
        x, y = x[y == y[0]], y[y == y[0]]
        ids = ids[: len(x)]
    one, four = (
        jsma(model, x, y, EVERYWHERE, random=keyed(0, ids), targets=count, tries=0)
        for count in (1, 4)
    )
    assert bool((model(one).argmax(1) != y).all() & (model(four).argmax(1) != y).all())
    one, four = distance(one, x, "l0"), distance(four, x, "l0")
    assert bool((four <= one).all())
    assert bool((four < one).any())


@pytest.mark.parametrize("options", [{"steps": 0}, {"targets": 0}, {"tries": -1}], ids=str)
def test_bad_options_are_refused(options: dict[str, int]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption, match=next(iter(options))):
        jsma(model, x, y, EVERYWHERE, random=keyed(0, IDS), **options)
