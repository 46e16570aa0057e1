"""HopSkipJump against the closed-form distance to the border of linear models."""

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.attacks._decision import Oracle, Trail
from trustml.attacks._directions import Directions
from trustml.attacks.hop_skip_jump import (
    Walk,
    _along_arc,
    _bisections,
    _jump,
    _normal,
    hop_skip_jump,
)
from trustml.contracts import Access, Norm
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

SAMPLES = 10
IDS = torch.arange(SAMPLES)
INFINITE = float("inf")


def linear(shape: tuple[int, ...], classes: int = 2) -> tuple[nn.Module, Tensor, Tensor]:
    """A random linear classifier, inputs about the middle of the box, its own answers as labels."""
    generator = torch.Generator().manual_seed(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = 0.3 + 0.4 * torch.rand(SAMPLES, *shape, generator=generator)
        model[1].bias -= model(x).mean(0)
        return model, x, model(x).argmax(1)


def least(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    layer = model[1]
    return minimal_distance(
        layer.weight.double(), layer.bias.double(), x, y, norm, (0.0, 1.0)
    ).detach()


@pytest.mark.parametrize(
    ("norm", "path", "factor"),
    [("l2", "arc", 1.02), ("l2", "jump", 1.05), ("linf", "jump", 1.15), ("linf", "arc", 1.15)],
)
@pytest.mark.parametrize(("shape", "classes"), [((1, 4, 5), 2), ((20,), 3)], ids=str)
def test_it_comes_to_the_border_of_a_linear_model(
    norm: str, path: str, factor: float, shape: tuple[int, ...], classes: int
) -> None:
    """Misread, never nearer than the closed form allows, and hardly farther."""
    model, x, y = linear(shape, classes)
    candidate = hop_skip_jump(
        model, x, y, Lp(norm, INFINITE), random=keyed(0, IDS), queries=2000, path=path
    )
    ratio = distance(candidate, x, norm) / least(model, x, y, norm)
    assert bool((model(candidate).argmax(1) != y).all())
    assert ratio.min() > 1 - 1e-5
    assert ratio.median() < factor
    # From some starts two classes' borders are both in sight, and the farther one is taken.
    assert classes > 2 or ratio.max() < 1.5 * factor


def test_the_normal_is_found_though_most_labels_agree() -> None:
    """Nine labels in ten say misread: what all moves have in common is noise, and taken off.

    Left in, the cosine of the normal to the truth falls from about 0.93 to 0.6.
    """
    model, x, y = linear((20,))
    with torch.no_grad():
        towards = torch.where(y == 1, -1.0, 1.0)[:, None]
        slope = (towards * (model[1].weight[1] - model[1].weight[0])).double()
        gap = (model(x)[:, 1] - model(x)[:, 0]).abs().double()[:, None]
    steep = slope.norm(dim=1, keepdim=True)
    # Labels are read at radius 1, a tenth of this box, whose walls are far away; 1.3 standard
    # deviations of what a random direction of 20 entries moves along the normal.
    threat, beyond = Lp("l2", INFINITE, -4.5, 5.5), 1.3 / 20**0.5
    point = x + (slope / steep * (beyond + gap / steep)).float()
    oracle = Oracle(model, y, threat, 300)
    walk = Walk(threat, arc=True, bisections=10, evaluations=20, memory=0.0)
    trail = Trail(IDS, x, point, point, distance(point, x, "l2"))
    numbers = torch.full_like(IDS, 300)
    normal = _normal(oracle, trail, walk, numbers, keyed(0, IDS), 1).double()
    cosine = (normal * slope).sum(1) / (normal.norm(dim=1) * steep[:, 0])
    assert bool((oracle.left == 0).all())
    assert cosine.mean() > 0.88


def test_where_all_labels_agree_the_mean_move_is_the_normal() -> None:
    """Chen et al. 2020, equation 14: there the baseline would leave nothing; the sign is theirs."""
    x, point, threat = torch.zeros(1, 6), torch.ones(1, 6), Lp("l2", INFINITE, -9.0, 9.0)
    trail = Trail(IDS[:1], x, point, point, distance(point, x, "l2"))
    walk, found = Walk(threat, True, 5, 20, 0.0), []
    for answer in (1.0, -1.0):
        oracle = Oracle(
            lambda z, answer=answer: torch.tensor([[-answer, answer]]).repeat(len(z), 1),
            torch.zeros(1, dtype=torch.long), threat, 99,
        )  # fmt: skip
        numbers = torch.full((1,), 20)
        found.append(_normal(oracle, trail, walk, numbers, keyed(0, IDS[:1]), 2))
    assert torch.equal(found[0], -found[1])
    assert float(found[0].norm()) > 1


def test_an_arc_ends_at_the_foot_of_a_flat_border() -> None:
    """The border through (1, 0), 60° to the way there: its nearest point is half as far away."""
    slope = torch.tensor([0.5, 0.75**0.5])

    def model(z: Tensor) -> Tensor:
        lead = z @ slope - 0.5 + 1e-6
        return torch.stack([-lead, lead], 1)

    x, point, threat = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), Lp("l2", INFINITE, -9, 9)
    trail = Trail(IDS[:1], x, point, point, distance(point, x, "l2"))
    oracle = Oracle(model, torch.zeros(1, dtype=torch.long), threat, 99)
    walk = Walk(threat, arc=True, bisections=20, evaluations=20, memory=0.0)
    found = _along_arc(oracle, trail, walk, slope[None], 1)
    assert torch.allclose(found.point, slope[None] / 2, atol=1e-3)
    assert int(oracle.left) == 99 - 20


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_jump_is_the_distance_over_the_root_of_the_turn(norm: Norm) -> None:
    """Chen et al. 2020, algorithm 2: ξ = ‖x_t − x‖ / √t, halved where it does not end misread."""
    seen: list[Tensor] = []

    def model(z: Tensor) -> Tensor:
        seen.append(z)
        lead = torch.full((len(z),), 1.0 if len(seen) > 2 else -1.0)
        return torch.stack([-lead, lead], 1)

    x, point = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    threat, normal = Lp(norm, INFINITE, -9, 9), torch.tensor([[3.0, 4.0]])
    trail = Trail(IDS[:1], x, point, point, distance(point, x, norm))
    oracle = Oracle(model, torch.zeros(1, dtype=torch.long), threat, 99)
    _jump(oracle, trail, Walk(threat, False, 5, 20, 0.0), normal, 4)
    way = torch.tensor([[0.6, 0.8]]) if norm == "l2" else torch.ones(1, 2)
    for tried, length in zip(seen, (1 / 2, 1 / 4, 1 / 8), strict=False):
        assert torch.allclose(tried, point + length * way)


def test_normals_are_remembered_and_take_more_labels_each_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Turn t's normal is its own and 0.9 of the last turn's sum; it takes 20 √t labels."""
    asked: list[Tensor] = []
    followed: list[Tensor] = []

    def normal(
        oracle: Oracle, trail: Trail, walk: Walk, numbers: Tensor, random: object, turn: int
    ) -> Tensor:
        asked.append(numbers)
        oracle.left[trail.rows] -= numbers
        return torch.eye(20)[turn].expand_as(trail.x).clone()

    def stay(oracle: Oracle, trail: Trail, walk: Walk, normal: Tensor, turn: int) -> Trail:
        followed.append(normal)
        return trail

    monkeypatch.setattr("trustml.attacks.hop_skip_jump._normal", normal)
    monkeypatch.setattr("trustml.attacks.hop_skip_jump._along_arc", stay)
    model, x, y = linear((20,))
    hop_skip_jump(model, x, y, Lp("l2", INFINITE), random=keyed(0, IDS), queries=150)
    assert [int(numbers[0]) for numbers in asked[:3]] == [20, 28, 35]
    assert followed[2][0, 1:4].tolist() == pytest.approx([0.81, 0.9, 1.0])


def test_every_turn_looks_in_other_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones again would say nothing new."""
    draw, drawn = Directions.draw, []

    def noted(*given: object) -> Tensor:
        drawn.append(draw(*given))
        return drawn[-1]

    monkeypatch.setattr(Directions, "draw", noted)
    model, x, y = linear((20,))
    hop_skip_jump(model, x, y, Lp("l2", INFINITE), random=keyed(0, IDS), queries=300)
    first = torch.stack([places[0, 0] for places in drawn])
    assert len(first) > 3
    assert len(first.unique()) == len(first)


def test_ways_are_halved_until_labels_are_read_on_both_sides() -> None:
    """A look is 0.03 away, of which 1/28 is along the normal of 784 entries; in Linf 1/784."""
    assert _bisections(784, "l2") == 10
    assert _bisections(784, "linf") == 15
    assert 28 / 0.03 <= 2**10 < 2 * 28 / 0.03
    assert 784 / 0.03 <= 2**15 < 2 * 784 / 0.03


def test_the_box_is_kept_at_its_walls() -> None:
    """Inputs in the corner of the box: the nearest point cannot go where the plain formula does."""
    model, x, y = linear((20,))
    x = (x > 0.5).float()
    with torch.no_grad():
        y = model(x).argmax(1)
    candidate = hop_skip_jump(model, x, y, Lp("l2", INFINITE), random=keyed(0, IDS))
    ratio = distance(candidate, x, "l2") / least(model, x, y, "l2")
    assert bool((candidate >= 0).all() & (candidate <= 1).all())
    assert bool((model(candidate).argmax(1) != y).all())
    assert ratio.min() > 1 - 1e-5
    assert ratio.median() < 1.2


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_ball_is_entered_and_then_left_alone(norm: str) -> None:
    """Who is inside stops asking; no one succeeds where the closed form says that none can."""
    model, x, y = linear((20,))
    share = torch.where(IDS < 5, 1.5, 0.99)
    threat = Lp(norm, share * least(model, x, y, norm))
    handed = Handed(model, Access.LABELS, SAMPLES, budget=1500)
    candidate = hop_skip_jump(
        handed, x, y, threat, random=keyed(0, IDS), queries=1500, stop_inside=True
    )
    assert bool(threat.contains(candidate, x).all())
    assert torch.equal(model(candidate).argmax(1) != y, IDS < 5)
    assert handed.forwards[:5].max() < 1000
    assert bool((handed.forwards[5:] > 1440).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("queries", [1, 2, 3, 20, 70, 333])
def test_no_sample_asks_more_than_it_may(norm: str, queries: int) -> None:
    """The model would raise BudgetSpent; without enough for a start, the inputs come back."""
    model, x, y = linear((1, 4, 5))
    handed = Handed(model, Access.LABELS, SAMPLES, budget=queries)
    candidate = hop_skip_jump(
        handed, x, y, Lp(norm, INFINITE), random=keyed(0, IDS), queries=queries
    )
    assert handed.forwards.max() <= queries
    if queries == 1:
        assert torch.equal(candidate, x)
    if queries >= 70:
        assert bool((model(candidate).argmax(1) != y).all())
        assert handed.forwards.min() > queries - 30


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_neither_companions_nor_order_matter(norm: str) -> None:
    """Bit for bit, though calls of the model are cut by how many samples there are."""
    model, x, y = linear((2, 3, 4))
    net = nn.Sequential(model, nn.Tanh())

    def run(rows: Tensor) -> Tensor:
        handed = Handed(net, Access.LABELS, len(rows), block=8)
        threat = Lp(norm, INFINITE)
        return hop_skip_jump(handed, x[rows], y[rows], threat, random=keyed(3, rows), queries=300)

    together = run(IDS)
    for rows in (IDS.flip(0), IDS[:7], IDS[5:6]):
        assert torch.equal(run(rows), together[rows])


def test_more_queries_come_nearer() -> None:
    """The best point is kept, and the walks begin alike."""
    model, x, y = linear((1, 10, 10))
    found = []
    for queries in (100, 300, 900):
        candidate = hop_skip_jump(
            model, x, y, Lp("l2", INFINITE), random=keyed(0, IDS), queries=queries
        )
        found.append(distance(candidate, x, "l2").median())
    assert found[0] > 1.3 * found[1] > 1.3 * found[2]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_targets_are_reached(norm: str) -> None:
    """With two classes, the wanted class is as far as the border."""
    model, x, y = linear((20,))
    candidate = hop_skip_jump(
        model, x, 1 - y, Lp(norm, INFINITE, targeted=True), random=keyed(0, IDS)
    )
    ratio = distance(candidate, x, norm) / least(model, x, y, norm)
    assert bool((model(candidate).argmax(1) == 1 - y).all())
    assert ratio.median() < 1.15


def test_without_a_start_a_sample_stays() -> None:
    """Nothing is misread by a model that always says the same."""

    def model(x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    x, y = torch.rand(4, 3), torch.tensor([0, 0, 1, 0])
    candidate = hop_skip_jump(model, x, y, Lp("l2", INFINITE), random=keyed(0, IDS[:4]))
    assert torch.equal(candidate, x)


@pytest.mark.parametrize(
    "options",
    [{"queries": 0}, {"evaluations": 0}, {"memory": -0.1}, {"memory": 1.1}],
    ids=str,
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        hop_skip_jump(model, x, y, Lp("l2", 1.0), random=keyed(0, IDS), **options)
