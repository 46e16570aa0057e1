"""The boundary attack against the closed-form distance to the border of linear models."""

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.attacks._decision import Oracle, Trail
from trustml.attacks.boundary import Pace, _paced, _shrinkage, _step, boundary
from trustml.contracts import Access
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

SAMPLES = 10
IDS = torch.arange(SAMPLES)
INFINITE = float("inf")


def linear(shape: tuple[int, ...], classes: int = 2) -> tuple[nn.Module, Tensor, Tensor]:
    """A random linear classifier, inputs about the middle of the box, its own answers as labels."""
    generator = torch.Generator().manual_seed(5)
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


@pytest.mark.parametrize(("shape", "classes"), [((1, 4, 5), 2), ((20,), 3)], ids=str)
def test_it_comes_to_the_border_of_a_linear_model(shape: tuple[int, ...], classes: int) -> None:
    """Misread, never nearer than the closed form allows, and hardly farther."""
    model, x, y = linear(shape, classes)
    candidate = boundary(model, x, y, Lp("l2", INFINITE), random=keyed(0, IDS), queries=2000)
    ratio = distance(candidate, x, "l2") / least(model, x, y, "l2")
    assert bool((model(candidate).argmax(1) != y).all())
    assert ratio.min() > 1 - 1e-5
    assert ratio.median() < 1.1


def test_a_ball_is_entered_and_then_left_alone() -> None:
    """Who is inside stops asking; no one succeeds where the closed form says that none can."""
    model, x, y = linear((20,))
    share = torch.where(IDS < 5, 1.5, 0.99)
    threat = Lp("l2", share * least(model, x, y, "l2"))
    handed = Handed(model, Access.LABELS, SAMPLES, budget=1500)
    candidate = boundary(handed, x, y, threat, random=keyed(0, IDS), queries=1500, stop_inside=True)
    assert bool(threat.contains(candidate, x).all())
    assert torch.equal(model(candidate).argmax(1) != y, IDS < 5)
    assert handed.forwards[:5].max() < 1300
    assert bool((handed.forwards[5:] > 1480).all())


@pytest.mark.parametrize("queries", [1, 2, 3, 20, 70, 333])
def test_no_sample_asks_more_than_it_may(queries: int) -> None:
    """The model would raise BudgetSpent; without enough for a start, the inputs come back."""
    model, x, y = linear((1, 4, 5))
    handed = Handed(model, Access.LABELS, SAMPLES, budget=queries)
    threat = Lp("l2", INFINITE)
    candidate = boundary(handed, x, y, threat, random=keyed(0, IDS), queries=queries)
    assert handed.forwards.max() <= queries
    if queries == 1:
        assert torch.equal(candidate, x)
    if queries >= 70:
        assert bool((model(candidate).argmax(1) != y).all())
        assert handed.forwards.min() > queries - 13


def test_neither_companions_nor_order_matter() -> None:
    """Bit for bit: steps and their lengths belong to samples."""
    model, x, y = linear((2, 3, 4))
    net = nn.Sequential(model, nn.Tanh())

    def run(rows: Tensor) -> Tensor:
        handed = Handed(net, Access.LABELS, len(rows), block=8)
        threat = Lp("l2", INFINITE)
        return boundary(handed, x[rows], y[rows], threat, random=keyed(3, rows), queries=200)

    together = run(IDS)
    for rows in (IDS.flip(0), IDS[:7], IDS[5:6]):
        assert torch.equal(run(rows), together[rows])


def test_steps_follow_how_often_they_succeed() -> None:
    """Steps that always end misread grow, those that never do shrink, others stay."""
    share = torch.tensor([0.9, 0.35, 0.05], dtype=torch.float64)
    half = torch.full_like(share, 0.5) / 10
    pace = _paced(Pace(half, half, share, torch.full_like(share, 0.2)))
    assert torch.allclose(pace.aside / half, torch.tensor([1.5, 1.0, 1 / 1.5]).double())
    assert torch.allclose(pace.nearer, pace.aside)
    pace = _paced(Pace(half, half, torch.full_like(share, 0.3), share))
    assert torch.allclose(pace.aside, half)
    assert torch.allclose(pace.nearer / half, torch.tensor([1.5, 1.5, 1 / 1.5]).double())


def test_a_step_has_the_angle_and_length_of_its_pace() -> None:
    """Aside by 0.3 of the distance turns the way from x by atan 0.3; 0.1 nearer leaves 0.9."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.tensor([0.0, 1.0]).repeat(len(x), 1)

    generator = torch.Generator().manual_seed(0)
    x, point, side = (torch.randn(SAMPLES, 7, generator=generator) for _ in range(3))
    threat, one = Lp("l2", INFINITE, -50.0, 50.0), torch.ones(SAMPLES, dtype=torch.float64)
    oracle = Oracle(model, torch.zeros_like(IDS), threat, 9)
    trail = Trail(IDS, x, point, point, distance(point, x, "l2"))
    moved, _ = _step(oracle, trail, Pace(0.3 * one, 0.1 * one, one / 3, one / 5), side, threat, 0)
    around, ahead = seen
    size = (point - x).norm(dim=1)
    assert torch.allclose((around - x).norm(dim=1), size)
    assert torch.allclose((ahead - x).norm(dim=1), 0.9 * size)
    cosine = torch.cosine_similarity(ahead - x, point - x)
    assert torch.allclose(cosine, torch.full_like(cosine, 1 / 1.09**0.5))
    assert torch.equal(moved.point, ahead)


def test_no_step_nearer_leads_outwards() -> None:
    """From distance 1 a step by 0.1 keeps 0.9 of the way, all of it where walls cut more off."""
    x, one = torch.zeros(2, 3), torch.ones(2, dtype=torch.float64)
    around = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    trail = Trail(IDS[:2], x, x + 1, x + 1, 3**0.5 * one)
    share = _shrinkage(around, trail, one[:, None], Pace(one, 0.1 * one, one, one))
    assert share[:, 0].tolist() == pytest.approx([0.9, 1.0])


def test_no_point_outside_the_box_is_asked_about() -> None:
    """The nearest misread point, and all ways to it, lie at walls; the box is not [0, 1]."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        gain = x[:, 0] + 1
        return torch.stack([-gain, gain], 1)

    x = torch.full((SAMPLES, 6), -2.0)
    threat = Lp("l2", INFINITE, -2.0, 3.0)
    boundary(model, x, torch.zeros_like(IDS), threat, random=keyed(0, IDS), queries=150)
    asked = torch.cat(seen)
    assert asked.min() == -2
    assert asked.max() == 3
    assert len(seen) > 50


def test_targets_are_reached() -> None:
    """With two classes, the wanted class is as far as the border."""
    model, x, y = linear((20,))
    threat = Lp("l2", INFINITE, targeted=True)
    candidate = boundary(model, x, 1 - y, threat, random=keyed(0, IDS), queries=2000)
    ratio = distance(candidate, x, "l2") / least(model, x, y, "l2")
    assert bool((model(candidate).argmax(1) == 1 - y).all())
    assert ratio.median() < 1.1


def test_without_a_start_a_sample_stays() -> None:
    """Nothing is misread by a model that always says the same."""

    def model(x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    x, y = torch.rand(4, 3), torch.tensor([0, 0, 1, 0])
    candidate = boundary(model, x, y, Lp("l2", INFINITE), random=keyed(0, IDS[:4]))
    assert torch.equal(candidate, x)


@pytest.mark.parametrize("options", [{"queries": 0}, {"aside": 0.0}, {"nearer": 1.0}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        boundary(model, x, y, Lp("l2", 1.0), random=keyed(0, IDS), **options)
