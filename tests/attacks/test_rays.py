"""RayS against the closed-form Linf distance to the border of linear models."""

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.attacks.rays import rays
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


@pytest.mark.parametrize(("shape", "classes"), [((1, 4, 5), 2), ((20,), 2), ((20,), 3)], ids=str)
def test_it_comes_to_the_border_of_a_linear_model(shape: tuple[int, ...], classes: int) -> None:
    """Turning one sign after the other ends at that of w, whose ray is the shortest.

    It is followed to the tolerance, so the error is that and no share of the distance.
    """
    model, x, y = linear(shape, classes)
    candidate = rays(
        model, x, y, Lp("linf", INFINITE), random=keyed(0, IDS), queries=900, tolerance=1e-4
    )
    truth = least(model, x, y, "linf")
    far = distance(candidate, x, "linf")
    assert bool((model(candidate).argmax(1) != y).all())
    assert bool((far > truth * (1 - 1e-5)).all())
    if classes == 2:
        assert bool((far < 1.02 * truth + 3e-4).all())
    else:
        assert (far / truth).median() < 1.05


def test_a_ball_is_entered_and_then_left_alone() -> None:
    """Who is inside stops asking; no one succeeds where the closed form says that none can."""
    model, x, y = linear((20,))
    share = torch.where(IDS < 5, 1.3, 0.99)
    threat = Lp("linf", share * least(model, x, y, "linf"))
    handed = Handed(model, Access.LABELS, SAMPLES, budget=900)
    candidate = rays(
        handed, x, y, threat, random=keyed(0, IDS), queries=900, tolerance=1e-4, stop_inside=True
    )
    assert bool(threat.contains(candidate, x).all())
    assert torch.equal(model(candidate).argmax(1) != y, IDS < 5)
    assert handed.forwards[:5].max() < 500
    assert bool((handed.forwards[5:] == 900).all())


@pytest.mark.parametrize("queries", [1, 2, 7, 8, 9, 50])
def test_every_query_is_spent_and_none_more(queries: int) -> None:
    """The model would raise BudgetSpent at one more."""
    model, x, y = linear((1, 4, 5))
    handed = Handed(model, Access.LABELS, SAMPLES, budget=queries)
    rays(handed, x, y, Lp("linf", INFINITE), random=keyed(0, IDS), queries=queries)
    assert bool((handed.forwards == queries).all())


def test_neither_companions_nor_order_matter() -> None:
    """Bit for bit: each sample is at its own block and look."""
    model, x, y = linear((2, 3, 4))
    net = nn.Sequential(model, nn.Tanh())

    def run(rows: Tensor) -> Tensor:
        handed = Handed(net, Access.LABELS, len(rows), block=8)
        threat = Lp("linf", INFINITE)
        return rays(handed, x[rows], y[rows], threat, random=keyed(3, rows), queries=100)

    together = run(IDS)
    for rows in (IDS.flip(0), IDS[:7], IDS[5:6]):
        assert torch.equal(run(rows), together[rows])


def test_blocks_are_halves_quarters_and_so_on() -> None:
    """Against a model that never errs, no turn is kept: each look shows which entries it turned."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x[0])
        return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    zero = torch.zeros(1, dtype=torch.int64)
    rays(
        model,
        torch.full((1, 5), 0.5),
        zero,
        Lp("linf", INFINITE),
        random=keyed(0, zero),
        queries=17,
    )
    turned = ["".join(str(int(entry)) for entry in look == 0.0) for look in seen[1:]]
    assert turned == [
        "00000", "11111", "11100", "00011", "11000", "00110", "00001",
        "10000", "01000", "00100", "00010", "00001", "11111", "11100", "00011", "11000",
    ]  # fmt: skip


def test_a_ball_of_nothing_is_not_searched() -> None:
    """One look says whether the input is misread; no other point is allowed."""
    model, x, y = linear((20,))
    handed = Handed(model, Access.LABELS, SAMPLES)
    assert torch.equal(rays(handed, x, y, Lp("linf", 0.0), random=keyed(0, IDS), queries=9), x)
    assert bool((handed.forwards == 1).all())


def test_the_first_look_is_at_the_corner_that_is_farthest() -> None:
    """Towards the farther wall of each entry: 0.2 and 0.5 go up, 0.7 goes down."""
    seen: list[Tensor] = []

    def model(z: Tensor) -> Tensor:
        seen.append(z)
        return torch.tensor([[1.0, 0.0]]).repeat(len(z), 1)

    x, y = torch.tensor([[0.2, 0.5, 0.7]]), torch.zeros(1, dtype=torch.int64)
    rays(model, x, y, Lp("linf", INFINITE), random=keyed(0, IDS[:1]), queries=2)
    assert torch.equal(seen[0], x)
    assert seen[1].tolist() == [[1.0, 1.0, 0.0]]


def test_targets_are_reached() -> None:
    """With two classes, the wanted class is as far as the border."""
    model, x, y = linear((20,))
    threat = Lp("linf", INFINITE, targeted=True)
    candidate = rays(model, x, 1 - y, threat, random=keyed(0, IDS), queries=900)
    ratio = distance(candidate, x, "linf") / least(model, x, y, "linf")
    assert bool((model(candidate).argmax(1) == 1 - y).all())
    assert ratio.median() < 1.1


def test_without_a_misread_corner_a_sample_stays() -> None:
    """Nothing is misread by a model that always says the same."""

    def model(x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    x, y = torch.rand(4, 3), torch.tensor([0, 0, 1, 0])
    candidate = rays(model, x, y, Lp("linf", INFINITE), random=keyed(0, IDS[:4]), queries=50)
    assert torch.equal(candidate, x)


@pytest.mark.parametrize(
    "options", [{"queries": 0}, {"tolerance": 0.0}, {"tolerance": 1.0}], ids=str
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        rays(model, x, y, Lp("linf", 1.0), random=keyed(0, IDS), **options)
