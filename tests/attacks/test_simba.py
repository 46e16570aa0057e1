"""SimBA against the closed forms of linear models and scipy's cosine transform."""

import pytest
import scipy.fft
import torch
from torch import Tensor

from tests.attacks.two_classes import IDS, SAMPLES, least, linear
from trustml.access import Handed
from trustml.attacks._windows import plane_of
from trustml.attacks.simba import Basis, _begin, simba
from trustml.contracts import Access
from trustml.errors import BadOption, MethodFailed
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("shape", [(2, 3, 4), (12,)], ids=str)
def test_linf_reaches_the_vertex_in_one_pass(shape: tuple[int, ...]) -> None:
    """A step of epsilon along each entry, one way or the other, is a linear model's optimum."""
    model, x, y = linear(shape)
    truth = least(model, x, y, "linf")
    for share, expected in ((1.01, True), (0.99, False)):
        threat = Lp("linf", share * truth)
        candidate = simba(
            model, x, y, threat, random=keyed(0, IDS), queries=2 * x[0].numel() + 1, step=1.0
        )
        assert bool(threat.contains(candidate, x).all())
        assert bool(((model(candidate).argmax(1) != y) == expected).all())


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_l2_slides_along_the_ball_towards_the_optimum(basis: str) -> None:
    """Small steps, each pulled back into the ball, end near the direction of w and never beyond."""
    model, x, y = linear((1, 3, 4))
    truth = least(model, x, y, "l2")
    far = truth > 0.04  # ten steps, so that the ball is round to them
    assert int(far.sum()) >= 8
    x, y, truth = x[far], y[far], truth[far]
    for share, expected in ((1.15, True), (0.99, False)):
        threat = Lp("l2", share * truth)
        candidate = simba(
            model, x, y, threat, random=keyed(0, IDS[far]), queries=800, step=0.004, basis=basis
        )
        assert bool(threat.contains(candidate, x).all())
        assert bool(((model(candidate).argmax(1) != y) == expected).all())


def test_targets_are_reached() -> None:
    """With two classes, the wanted one is reached just where the other is lost."""
    model, x, y = linear((12,))
    threat = Lp("linf", 1.05 * least(model, x, y, "linf"), targeted=True)
    candidate = simba(model, x, 1 - y, threat, random=keyed(0, IDS), queries=50, step=1.0)
    assert bool((model(candidate).argmax(1) == 1 - y).all())


@pytest.mark.parametrize("shape", [(2, 5, 4), (5, 4), (7,)], ids=str)
def test_waves_are_the_orthonormal_cosine_transform(shape: tuple[int, ...]) -> None:
    """Wave (u, v) is what scipy's inverse DCT-II makes of a single 1 at (u, v)."""
    basis = Basis(plane_of(shape), True, 1.0)
    ours = basis.at(torch.arange(basis.count)).view(-1, *shape)
    single = torch.eye(basis.count, dtype=torch.float64).view(-1, *shape)
    axes = (-2, -1) if len(shape) > 1 else (-1,)
    theirs = torch.from_numpy(scipy.fft.idctn(single.numpy(), axes=axes, norm="ortho"))
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_the_lowest_frequencies_are_the_smooth_ones() -> None:
    """A quarter of 8 × 8 frequencies an axis leaves 2 × 2 waves, of at most one change of sign."""
    basis = Basis(plane_of((1, 8, 8)), True, 0.25)
    assert basis.count == 4
    waves = basis.at(torch.arange(4))[:, 0]
    for axis in (1, 2):
        assert int((waves.sign().diff(dim=axis) != 0).sum(axis).max()) <= 1


def test_every_query_is_spent_and_none_more() -> None:
    """A robust sample is asked about as often as it may be; one that is fooled leaves."""
    model, x, y = linear((1, 4, 4))
    share = torch.where(IDS < 6, 0.5, 20.0)
    threat = Lp("linf", share * least(model, x, y, "linf"))
    handed = Handed(model, Access.PROBABILITIES, SAMPLES, budget=90)
    simba(handed, x, y, threat, random=keyed(0, IDS), queries=90)
    assert bool((handed.forwards[:6] == 90).all())
    assert handed.forwards[6:].max() < 90


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_neither_companions_nor_order_matter(norm: str, basis: str) -> None:
    """Bit for bit: each sample has its own order of directions."""
    model, x, y = linear((1, 5, 4))
    threat = Lp(norm, least(model, x, y, norm) * torch.linspace(0.5, 1.6, SAMPLES))

    def run(rows: Tensor) -> Tensor:
        handed = Handed(model, Access.PROBABILITIES, len(rows), block=8)
        options = {"random": keyed(3, rows), "queries": 80, "basis": basis}
        return simba(handed, x[rows], y[rows], threat.at(rows), **options)

    together = run(IDS)
    for rows in (IDS.flip(0), IDS[:7], IDS[5:6]):
        assert torch.equal(run(rows), together[rows])


def test_directions_come_in_an_order_of_each_samples_own() -> None:
    """Among 8 samples alike, the first entry that is moved is not always the same."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    x, zero = torch.full((8, 20), 0.5), torch.zeros(8, dtype=torch.int64)
    simba(model, x, zero, Lp("l2", 1.0), random=keyed(0, IDS[:8]), queries=3)
    moved = (seen[1] != x).int().argmax(1)
    assert len(moved.unique()) > 3
    # What did not help is tried the other way round, exactly.
    assert torch.allclose(seen[1] - x, x - seen[2], atol=1e-6)


def test_nan_is_an_error() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.full((len(x), 2), torch.nan)

    zero = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(MethodFailed, match="NaN"):
        simba(model, torch.rand(3, 4), zero, Lp("linf", 0.1), random=keyed(0, IDS[:3]), queries=20)


@pytest.mark.parametrize(
    "options", [{"queries": 0}, {"step": 0.0}, {"lowest": 0.0}, {"lowest": 1.1}], ids=str
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        simba(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), **options)


def test_waves_come_by_rings_of_frequencies() -> None:
    """Of 16 × 16 waves the first 4 are those below an eighth of each axis, 2; the next 12 below 4.

    Within a ring each sample's order is its own; single entries have no rings.
    """
    x, y = torch.zeros(6, 1, 16, 16), torch.zeros(6, dtype=torch.int64)
    random = keyed(0, torch.arange(6))
    waves, entries = (Basis(plane_of(x.shape[1:]), dct, 1.0) for dct in (True, False))
    order = _begin(x, y, Lp("l2", 1.0), random, waves).order
    for first, last, below in ((0, 4, 2), (4, 16, 4), (16, 36, 6)):
        numbers = order[:, first:last]
        assert bool(((numbers // 16 < below) & (numbers % 16 < below)).all())
    assert not torch.equal(order[0, :16], order[1, :16])
    assert int(entries.rings(x.device).max()) == 0
