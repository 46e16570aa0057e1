"""fgsm, pgd, apgd and apgd_targeted against the exact answers of a linear model."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.attacks.conftest import Linear
from trustml.access import Handed
from trustml.attacks.apgd import apgd
from trustml.attacks.apgd_targeted import apgd_targeted
from trustml.attacks.bim import bim
from trustml.attacks.fgsm import fgsm
from trustml.attacks.pgd import pgd
from trustml.contracts import Access, Norm
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.randomness import keyed
from trustml.threats import Lp

IDS = torch.arange(64)
BUDGETS: dict[Norm, tuple[float, ...]] = {
    "linf": (0.02, 0.05, 0.1),
    "l2": (0.1, 0.2, 0.4),
    "l1": (0.3, 0.7, 1.5),
}
CASES = [(norm, epsilon) for norm, epsilons in BUDGETS.items() for epsilon in epsilons]
ATTACKS: dict[str, Any] = {
    "fgsm": fgsm, "pgd": pgd, "apgd": apgd, "apgd_targeted": apgd_targeted,
}  # fmt: skip


def fooled(linear: Linear, name: str, threat: Lp, **options: Any) -> Tensor:
    """Return which samples the attack fools, its points checked to be allowed."""
    random = keyed(0, IDS)
    moved = ATTACKS[name](linear.model, linear.x, linear.y, threat, random=random, **options)
    assert bool(threat.contains(moved, linear.x).all())
    with torch.no_grad():
        return linear.model(moved).argmax(1) != linear.y


@pytest.mark.parametrize(("norm", "epsilon"), CASES)
@pytest.mark.parametrize("name", list(ATTACKS))
def test_none_fools_what_cannot_be_fooled(
    linear: Linear, name: str, norm: Norm, epsilon: float
) -> None:
    """The largest margin within ball and box is known in closed form."""
    threat = Lp(norm, epsilon)
    assert not bool((fooled(linear, name, threat) & ~linear.vulnerable(threat)).any())


@pytest.mark.parametrize(("norm", "epsilon"), CASES)
def test_targeted_apgd_fools_all_that_can_be_fooled(
    linear: Linear, norm: Norm, epsilon: float
) -> None:
    """Towards each class the loss of a linear model has no local maximum but the global one."""
    threat = Lp(norm, epsilon)
    missed = linear.vulnerable(threat) & ~fooled(linear, "apgd_targeted", threat)
    assert int(missed.sum()) <= 1


@pytest.mark.parametrize("name", ["pgd", "apgd"])
@pytest.mark.parametrize(("norm", "epsilon"), CASES)
def test_untargeted_walks_come_near(linear: Linear, name: str, norm: Norm, epsilon: float) -> None:
    """They may follow a class that is not the nearest; nine in ten of the possible are found."""
    threat = Lp(norm, epsilon)
    possible = linear.vulnerable(threat)
    found = fooled(linear, name, threat, loss="margin", restarts=3)
    assert int(found.sum()) >= 0.9 * int(possible.sum())


def test_fgsm_is_exact_for_two_classes_without_walls() -> None:
    """One step along the sign of the only slope there is, to a corner of the ball: optimal."""
    layer = nn.Linear(10, 2)
    x = torch.full((40, 10), 0.5) + 0.1 * torch.rand(40, 10)
    y = layer(x).argmax(1)
    slope = layer.weight[1] - layer.weight[0]
    gap = (layer(x)[:, 1] - layer(x)[:, 0]).abs()
    least = gap / slope.abs().sum()
    for epsilon in (0.05, 0.1, 0.2):
        moved = fgsm(layer, x, y, Lp("linf", epsilon), random=keyed(0, torch.arange(40)))  # type: ignore[arg-type]
        clear = (least / epsilon - 1).abs() > 1e-4
        assert torch.equal((layer(moved).argmax(1) != y)[clear], (least < epsilon)[clear])


def test_fgsm_from_a_random_point_moves_on_by_five_quarters() -> None:
    """Wong et al. 2020, algorithm 3: δ uniform, then δ + 1.25 ε sign(g), back into the ball.

    Along the sign of a linear model's slope a start of −ε … ε comes to ε/4 … 9/4 ε: those from
    −ε/4 on, five eighths, end at the edge.
    """
    torch.manual_seed(0)
    layer, count, entries = nn.Linear(50, 2), 60, 50
    x, y = 0.5 + torch.zeros(count, entries), torch.zeros(count, dtype=torch.int64)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([100.0, 0.0]))  # nobody is ever won
        way = (layer.weight[1] - layer.weight[0]).sign()
    ids, threat = torch.arange(count), Lp("linf", 0.1)
    moved = fgsm(layer, x, y, threat, random=keyed(0, ids), start=True, loss="margin")  # type: ignore[arg-type]
    along = (moved - x) * way
    assert bool((along <= 0.1 + 1e-6).all())
    assert bool((along >= 0.025 - 1e-6).all())
    # 3 000 entries: five standard errors of a share are 0.045.
    assert abs(float((along > 0.1 - 1e-6).double().mean()) - 5 / 8) < 0.045
    short = fgsm(layer, x, y, threat, random=keyed(0, ids), step=0.01, loss="margin")  # type: ignore[arg-type]
    assert torch.allclose(short, x + 0.01 * way, atol=1e-6)


@pytest.mark.parametrize("start", [False, True])
def test_fgsm_asks_once_and_lets_those_that_are_won_stay(start: bool) -> None:
    """One pass forward and one back each; where the model already errs nothing is to be done."""
    torch.manual_seed(0)
    layer, x = nn.Linear(20, 3), torch.rand(40, 20)
    y = torch.arange(40) % 3
    handed = Handed(layer, Access.GRADIENTS, 40)  # type: ignore[arg-type]
    random = keyed(0, torch.arange(40))
    moved = fgsm(handed, x, y, Lp("linf", 1e-3), random=random, start=start)
    assert handed.forwards.unique().tolist() == handed.backwards.unique().tolist() == [1.0]
    with torch.no_grad():
        won = layer(x).argmax(1) != y
    if not start:
        assert 0 < int(won.sum()) < 40
        assert torch.equal((moved == x).all(1), won)


def test_bim_looks_at_the_inputs_once() -> None:
    """Ten steps are eleven looks for who is never won, the last without a way back; one for who is.

    The first look is at the inputs.
    """
    torch.manual_seed(0)
    layer, x = nn.Linear(20, 3), torch.rand(40, 20)
    y = layer(x).argmax(1)
    y[::4] = (y[::4] + 1) % 3
    handed = Handed(layer, Access.GRADIENTS, 40)  # type: ignore[arg-type]
    moved = bim(handed, x, y, Lp("linf", 1e-6), random=keyed(0, torch.arange(40)), steps=10)
    assert torch.equal(moved[::4], x[::4])
    assert handed.forwards[::4].unique().tolist() == [1.0]
    others = torch.arange(40) % 4 > 0
    assert handed.forwards[others].unique().tolist() == [11.0]
    assert handed.backwards[others].unique().tolist() == [10.0]


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd"])
def test_targeted_threats_reach_the_wanted_class(linear: Linear, name: str) -> None:
    """With the whole box to move in, a wanted class is reached; often by one step too."""
    wanted = (linear.y + 1) % 5
    threat = Lp("linf", 1.0, targeted=True)
    moved = ATTACKS[name](linear.model, linear.x, wanted, threat, random=keyed(0, IDS))
    reached = linear.model(moved).argmax(1) == wanted
    assert float(reached.double().mean()) > (0.5 if name == "fgsm" else 0.97)


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_samples_do_not_depend_on_their_batch(linear: Linear, name: str, norm: Norm) -> None:
    """The same points in other orders and batches; in float64, where no rounding shows."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 5).double())
    model[1].weight.data.copy_(linear.weight)
    model[1].bias.data.copy_(linear.bias)

    def wide(x: Tensor) -> Tensor:
        return model(x.double())

    threat = Lp(norm, BUDGETS[norm][1])
    attack, options = ATTACKS[name], {} if name == "fgsm" else {"steps": 10}
    whole = attack(wide, linear.x, linear.y, threat, random=keyed(0, IDS), **options)
    order = torch.randperm(64)
    mixed = attack(
        wide, linear.x[order], linear.y[order], threat, random=keyed(0, IDS[order]), **options
    )
    assert torch.allclose(mixed, whole[order], atol=1e-6)
    for rows in (slice(0, 1), slice(5, 12)):
        part = attack(
            wide, linear.x[rows], linear.y[rows], threat, random=keyed(0, IDS[rows]), **options
        )
        assert torch.allclose(part, whole[rows], atol=1e-6)


def test_the_best_point_is_returned_not_the_last() -> None:
    """Class 1 is a thin slab that the walk crosses and leaves: the crossing must be kept."""

    def slab(x: Tensor) -> Tensor:
        inside = ((x[:, 0] > 0.6) & (x[:, 0] < 0.7)).float()
        return torch.stack([0 * x[:, 0], x[:, 0] + 10 * inside - 5], 1)

    x, y = torch.full((16, 3), 0.5), torch.zeros(16, dtype=torch.long)
    random = keyed(0, torch.arange(16))
    moved = pgd(slab, x, y, Lp("linf", 0.45), random=random, steps=30, start=False)  # type: ignore[arg-type]
    assert bool((slab(moved).argmax(1) == 1).all())


def test_random_starts_are_centred_and_fill_the_ball() -> None:
    """A step of hardly any length shows the start: uniform in ±ε, mean 0 and deviation ε/√3."""

    def flat(x: Tensor) -> Tensor:
        return torch.stack([x.sum(1) * 1e-6 + 1, x.sum(1) * 0], 1)

    x, y = torch.full((500, 20), 0.5), torch.zeros(500, dtype=torch.long)
    moved = pgd(flat, x, y, Lp("linf", 0.3), random=keyed(0, torch.arange(500)), steps=1, step=1e-6)  # type: ignore[arg-type]
    move = (moved - x).flatten()
    assert abs(float(move.mean())) < 4 * 0.3 / 3**0.5 / 100
    assert float(move.std()) == pytest.approx(0.3 / 3**0.5, rel=0.02)


def test_models_without_gradients_are_refused(linear: Linear) -> None:
    """A detached answer is said to be one, not silently attacked at random."""
    for name, attack in ATTACKS.items():
        with pytest.raises(NotApplicable, match="gradient"):
            attack(
                lambda x: linear.model(x).detach() if x.requires_grad else linear.model(x),
                linear.x, linear.y, Lp("linf", 0.001), random=keyed(0, IDS),
            )  # fmt: skip
        assert name


def test_nan_answers_are_named(linear: Linear) -> None:
    """NaN would compare as never fooled."""
    for name in ("pgd", "apgd"):
        with pytest.raises(MethodFailed, match="NaN"):
            ATTACKS[name](
                lambda x: linear.model(x) * float("nan"),
                linear.x, linear.y, Lp("linf", 0.1), random=keyed(0, IDS),
            )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pgd", {"steps": 0}), ("pgd", {"restarts": 0}), ("pgd", {"step": -0.1}),
        ("pgd", {"restarts": 2, "start": False}), ("apgd", {"steps": 0}),
        ("apgd", {"restarts": 0}), ("apgd_targeted", {"targets": 0}),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(linear: Linear, name: str, options: dict[str, Any]) -> None:
    """Each is one clear line."""
    with pytest.raises(BadOption, match="="):
        fooled(linear, name, Lp("linf", 0.1), **options)
