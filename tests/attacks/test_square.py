"""Square against closed forms of linear models, its published schedule, and its own bookkeeping."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.attacks._losses import margin
from trustml.attacks._square_moves import Hunt, stripes, tiles, to_a_dipole, to_a_wall
from trustml.attacks._windows import plane_of
from trustml.attacks.square import Schedule, square, standing
from trustml.contracts import Access, Norm
from trustml.errors import BadOption, MethodFailed
from trustml.randomness import keyed
from trustml.threats import Lp

SAMPLES = 12
IDS = torch.arange(SAMPLES)


def linear(classes: int, shape: tuple[int, ...], seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A random linear classifier, inputs in [0.3, 0.7], and its own answers as labels."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = 0.3 + 0.4 * torch.rand(SAMPLES, *shape, generator=generator)
        model[1].bias -= model(x).mean(0)
        return model, x, model(x).argmax(1)


def least(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """The least distance at which a sample of a linear model is misread, in closed form."""
    layer = model[1]
    return minimal_distance(
        layer.weight.double(), layer.bias.double(), x, y, norm, (0.0, 1.0)
    ).detach()


def fooled(model: nn.Module, candidate: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(candidate).argmax(1) != y


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 4), (12,), (2, 2, 3, 1)], ids=str)
@pytest.mark.parametrize(("classes", "restarts", "share"), [(2, 1, 1.02), (3, 4, 1.1)])
def test_linf_finds_just_what_can_be_found(
    shape: tuple[int, ...], classes: int, restarts: int, share: float
) -> None:
    """With one entry a window at the end, it climbs to the vertex that is the optimum of Linf.

    With a third class the climb can end at the lower of two tops: hence restarts.
    """
    model, x, y = linear(classes, shape)
    truth = least(model, x, y, "linf")
    for times, expected in ((share, True), (0.98, False)):
        threat, queries = Lp("linf", times * truth), 400 * restarts
        candidate = square(
            model, x, y, threat, random=keyed(1, IDS), queries=queries, restarts=restarts
        )
        assert bool(threat.contains(candidate, x).all())
        assert bool((fooled(model, candidate, y) == expected).all())


@pytest.mark.parametrize(("shape", "share"), [((1, 6, 6), 1.5), ((4,), 1.1)], ids=str)
def test_l2_finds_what_is_near_and_nothing_nearer_than_can_be(
    shape: tuple[int, ...], share: float
) -> None:
    """Dipoles reach the direction of w only roughly, so the share above the optimum is larger."""
    model, x, y = linear(2, shape)
    truth = least(model, x, y, "l2")
    for times, expected in ((share, True), (0.98, False)):
        threat = Lp("l2", times * truth)
        candidate = square(model, x, y, threat, random=keyed(1, IDS), queries=1000)
        assert bool(threat.contains(candidate, x).all())
        assert bool((fooled(model, candidate, y) == expected).all())


@pytest.mark.parametrize(("shape", "share"), [((1, 6, 6), 2.5), ((4,), 1.25)], ids=str)
def test_l1_finds_what_is_near_and_nothing_nearer_than_can_be(
    shape: tuple[int, ...], share: float
) -> None:
    """The optimum moves the entry of the largest weight alone; dipoles move nine or three."""
    model, x, y = linear(2, shape)
    truth = least(model, x, y, "l1")
    for times, expected in ((share, True), (0.98, False)):
        threat = Lp("l1", times * truth)
        candidate = square(model, x, y, threat, random=keyed(1, IDS), queries=1500)
        assert bool(threat.contains(candidate, x).all())
        assert bool((fooled(model, candidate, y) == expected).all())


@pytest.mark.parametrize("order", [1, 2])
def test_a_dipole_spends_what_is_free(order: int) -> None:
    """Far from the walls the move's norm is the budget after each query, neither less nor more."""
    plane, count = plane_of((2, 9, 9)), 7
    x = torch.rand(count, 162)
    wide = torch.full_like(x, 100.0)
    epsilon = torch.rand(count, 1) + 0.5
    hunt = Hunt(
        IDS[:count], x, IDS[:count], -wide, wide, epsilon, x, x.new_zeros(count), x.new_zeros(0)
    )
    hunt = replace(hunt, point=tiles(hunt, plane, keyed(0, IDS[:count]), order))
    for step in range(6):
        size = (hunt.point - x).norm(order, dim=1, keepdim=True)
        assert torch.allclose(size, epsilon, rtol=1e-4)
        draw = keyed(step, IDS[:count]).uniform((7,), "draw")
        point = hunt.point.clone()
        for patch in to_a_dipole(hunt, plane, 0.1, draw, order):
            point.scatter_(1, patch.index, patch.new)
        hunt = replace(hunt, point=point)


@pytest.mark.parametrize("order", [1, 2])
def test_what_was_never_spent_is_spent_at_once(order: int) -> None:
    """From the input, of which nothing has moved, one dipole a channel takes the whole budget."""
    plane, x = plane_of((2, 9, 9)), torch.rand(5, 162)
    wide, epsilon = torch.full_like(x, 100.0), torch.rand(5, 1) + 0.5
    nothing = x.new_zeros(5)
    hunt = Hunt(IDS[:5], x, IDS[:5], -wide, wide, epsilon, x, nothing, nothing[:0])
    point = x.clone()
    for patch in to_a_dipole(hunt, plane, 0.1, keyed(0, IDS[:5]).uniform((7,), "draw"), order):
        point.scatter_(1, patch.index, patch.new)
    assert torch.allclose((point - x).norm(order, dim=1, keepdim=True), epsilon, rtol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_an_unbounded_budget_fools_all(norm: str) -> None:
    """Within the box a linear model with classes on both sides has no robust sample."""
    model, x, y = linear(2, (1, 5, 5))
    infinite = Lp(norm, float("inf"))
    candidate = square(model, x, y, infinite, random=keyed(0, IDS), queries=300)
    assert bool(fooled(model, candidate, y).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_targets_are_reached(norm: str) -> None:
    """The wanted class is the second of two, so what is wanted is the same as any misreading."""
    model, x, y = linear(2, (12,))
    threat = Lp(norm, 1.5 * least(model, x, y, norm), targeted=True)
    candidate = square(model, x, 1 - y, threat, random=keyed(2, IDS), queries=500)
    assert bool((model(candidate).argmax(1) == 1 - y).all())


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_query_is_spent_and_none_more(norm: str, restarts: int) -> None:
    """A robust sample takes its first look and equal shares of the rest; BudgetSpent is not met."""
    model, x, y = linear(2, (1, 4, 4))
    threat = Lp(norm, 0.5 * least(model, x, y, norm))
    handed = Handed(model, Access.PROBABILITIES, SAMPLES, budget=50)
    square(handed, x, y, threat, random=keyed(0, IDS), queries=50, restarts=restarts)
    assert bool((handed.forwards == 1 + 49 // restarts * restarts).all())


def test_the_won_leave() -> None:
    """A sample that is fooled at once is asked about no more than the first checkpoints take."""
    model, x, y = linear(2, (1, 4, 4))
    epsilon = torch.where(IDS < 6, 10.0, 0.1) * least(model, x, y, "linf")
    handed = Handed(model, Access.PROBABILITIES, SAMPLES)
    square(handed, x, y, Lp("linf", epsilon), random=keyed(0, IDS), queries=200)
    assert handed.forwards[:6].max() < 40
    assert bool((handed.forwards[6:] == 200).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_neither_companions_nor_order_matter(norm: str) -> None:
    """Bit for bit: random numbers belong to samples, and so do windows."""
    model, x, y = linear(3, (2, 5, 4))
    net = nn.Sequential(model, nn.Tanh())
    threat = Lp(norm, least(model, x, y, norm) * torch.linspace(0.5, 1.6, SAMPLES))

    def run(rows: Tensor) -> Tensor:
        handed = Handed(net, Access.PROBABILITIES, len(rows), block=16)
        part = threat.at(rows)
        return square(handed, x[rows], y[rows], part, random=keyed(3, rows), queries=100)

    together = run(IDS)
    for rows in (IDS.flip(0), IDS[:7], IDS[5:6]):
        assert torch.equal(run(rows), together[rows])


def test_saturated_probabilities_lose_nothing() -> None:
    """A softmax of logits in the dozens rounds to 1; its logarithm still shows the way."""
    model, x, y = linear(2, (12,))
    with torch.no_grad():
        model[1].weight *= 30
        model[1].bias *= 30
    threat = Lp("linf", 1.05 * least(model, x, y, "linf"))
    for access in (Access.PROBABILITIES, Access.LOGITS):
        handed = Handed(model, access, SAMPLES)
        candidate = square(handed, x, y, threat, random=keyed(0, IDS), queries=600)
        assert bool(fooled(model, candidate, y).all()), access


def test_window_sizes_follow_the_paper() -> None:
    """Of 10 000 queries: p up to the 10th, then halved after 10, 50, 200, 500 and so on.

    Of 5 000 the 36th counts as 36 · √2 = 50.9 of these, the 37th as 52.3; in L1 as itself.
    """
    plan = Schedule(plane_of((1, 28, 28)), "linf", 0.8, 10_000)
    asked = (10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
    assert [plan.share(step) for step in asked] == [0.8 / 2**k for k in range(10)]
    for norm, shares in (("linf", [0.4, 0.2]), ("l1", [0.4, 0.4])):
        fewer = Schedule(plan.plane, norm, 0.8, 5_000)
        assert [fewer.share(36), fewer.share(37)] == shares


def test_no_query_repeats_the_point_that_it_starts_from() -> None:
    """A window whose entries already stand at that wall is sent to the other one."""
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            # No move ever helps, so each query starts from the same vertex.
            return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    x = torch.rand(3, 1, 4, 4)
    zero = torch.zeros(3, dtype=torch.int64)
    square(Watched(), x, zero, Lp("linf", 0.1), random=keyed(0, IDS[:3]), queries=60)
    start, rest = seen[1], torch.stack(seen[2:])
    assert bool((rest != start).flatten(2).any(2).all())


def test_each_sample_has_a_window_of_its_own() -> None:
    """Samples alike in all but their number are changed at different places."""
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    x, zero = torch.full((8, 1, 9, 9), 0.5), torch.zeros(8, dtype=torch.int64)
    square(Watched(), x, zero, Lp("linf", 0.1), random=keyed(0, IDS[:8]), queries=400)
    changed = (seen[-1] != seen[1]).flatten(1)
    assert len({tuple(row.tolist()) for row in changed}) > 4


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_best_point_seen_comes_back(norm: str) -> None:
    """Among all points asked about, the input itself left out, none has a higher margin."""
    model, x, y = linear(3, (1, 6, 6))
    threat, seen = Lp(norm, 0.9 * least(model, x, y, norm)), []

    def watched(z: Tensor) -> Tensor:
        seen.append(margin(model(z), y))
        return model(z)

    candidate = square(watched, x, y, threat, random=keyed(0, IDS), queries=100)
    assert torch.allclose(margin(model(candidate), y), torch.stack(seen[1:]).amax(0), atol=1e-5)
    assert bool((torch.stack(seen[1:]).amax(0) > seen[1]).all())


def _nan(x: Tensor) -> Tensor:
    return torch.full((len(x), 2), torch.nan)


def test_nan_is_an_error() -> None:
    model, x, y = linear(2, (4,))
    del model
    with pytest.raises(MethodFailed, match="NaN"):
        square(_nan, x, y, Lp("linf", 0.1), random=keyed(0, IDS), queries=20)


BAD: list[Callable[[], dict[str, object]]] = [
    lambda: {"queries": 1},
    lambda: {"queries": 3, "restarts": 3},
    lambda: {"restarts": 0},
    lambda: {"initial_share": 0.0},
    lambda: {"initial_share": 1.5},
]


@pytest.mark.parametrize("options", BAD)
def test_bad_options_are_refused(options: Callable[[], dict[str, object]]) -> None:
    model, x, y = linear(2, (4,))
    with pytest.raises(BadOption):
        square(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), **options())


def test_either_wall_is_as_likely() -> None:
    """Of 4000 stripes half go up, within four deviations; a draw below 0.5 takes a channel up."""
    x, threat = torch.full((400, 1, 4, 10), 0.5), Lp("linf", 0.1)
    hunt, plane = standing(x, torch.zeros(400, dtype=torch.long), threat), plane_of(x.shape[1:])
    up = stripes(hunt, plane, keyed(0, torch.arange(400))) > 0.5
    assert abs(float(up.float().mean()) - 0.5) < 4 * 0.5 / 4000**0.5
    for draw, wall in ((0.45, 0.6), (0.55, 0.4)):
        (patch,) = to_a_wall(hunt, plane, 0.3, torch.full((400, 3), draw))
        assert torch.allclose(patch.new, torch.tensor(wall))


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 1.0), ("l1", 6.0)])
def test_every_point_that_is_asked_about_is_allowed(norm: Norm, epsilon: float) -> None:
    """What is moved after it was asked about might be read otherwise. Channels share ε."""
    asked: list[Tensor] = []
    net, x, _ = linear(3, (3, 8, 8))
    with torch.no_grad():
        net[1].bias[0] += 99  # nobody is ever fooled, so that all go on to the end

    def model(points: Tensor) -> Tensor:
        asked.append(points.clone())
        return net(points)

    own = torch.zeros(SAMPLES, dtype=torch.int64)
    square(model, x, own, Lp(norm, epsilon), random=keyed(0, IDS), queries=150)
    assert len(asked) == 150
    for points in asked:
        assert bool(Lp(norm, epsilon).contains(points, x).all())
