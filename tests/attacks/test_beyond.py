"""Attacks beyond the norms on linear models, where the best that can be done is known."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trustml.attacks.flow import flow
from trustml.attacks.patch import patch
from trustml.attacks.perceptual import perceptual
from trustml.attacks.spatial import spatial
from trustml.attacks.wasserstein import wasserstein
from trustml.beyond import Beyond, drawn
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.measures.flow import reachable
from trustml.measures.spatial import grid, warped
from trustml.measures.wasserstein import _incidence
from trustml.randomness import keyed
from trustml.threats import Lp

IDS = torch.arange(3)
LOST = 1e3  # no change wins against this bias, so that each attack shows the highest loss it found


class Linear(nn.Module):
    """Logits (0, w·x − bias): with y = 0 the margin grows along w."""

    def __init__(self, shape: tuple[int, ...], bias: float = LOST) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.slope = nn.Parameter(torch.randn(shape, generator=generator))
        self.bias = bias

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.slope).flatten(1).sum(1) - self.bias
        return torch.stack([torch.zeros_like(score), score], 1)

    def gain(self, candidate: Tensor, x: Tensor) -> Tensor:
        """Return how much the margin grew (B,)."""
        return ((candidate - x).double() * self.slope.detach().double()).flatten(1).sum(1)


def _images(*shape: int) -> Tensor:
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(8))
    return torch.where(x < 0.3, 0.0, x)  # black pixels have nothing to give


Y = torch.zeros(3, dtype=torch.int64)


def test_the_best_patch_of_all() -> None:
    """Each rectangle gains what its entries gain at the walls; the best of all is found."""
    model, x = Linear((2, 6, 5)), _images(2, 6, 5)
    candidate = patch(model, x, Y, Beyond("patch", 6 / 30), random=keyed(0, IDS), steps=3)
    slope = model.slope.detach()
    each = torch.where(slope > 0, slope * (1 - x), -slope * x).sum(1).double()
    for row in range(3):
        best = max(
            float(each[row, t:b, a:z].sum())
            for t, b in itertools.combinations(range(7), 2)
            for a, z in itertools.combinations(range(6), 2)
            if (b - t) * (z - a) <= 6
        )
        assert float(model.gain(candidate, x)[row]) == pytest.approx(best, rel=1e-5)


def test_a_patch_that_may_slip_wins_wherever_it_ends() -> None:
    """Weights that alternate undo a patch that is one pixel off; smooth ones do not."""
    x = torch.full((3, 1, 9, 9), 0.5)
    model = Linear((1, 9, 9))
    with torch.no_grad():
        model.slope.fill_(1.0)
    model.bias = float(0.5 * 81 + 1.4)
    around = Beyond("patch", 4 / 81)
    candidate = patch(model, x, Y, around, random=keyed(0, IDS), slip=1, steps=5)
    assert bool((model(candidate).argmax(1) == 1).all())
    changed = (candidate != x).any(1)
    assert not bool(changed[:, 0].any() | changed[:, -1].any() | changed[:, :, 0].any())
    for by in itertools.product((-1, 0, 1), repeat=2):
        moved = x + (candidate - x).roll(by, (2, 3))
        assert bool((model(moved).argmax(1) == 1).all())


def test_every_member_of_the_grid_is_tried() -> None:
    """The best of 775 by brute force."""
    model, x = Linear((1, 10, 10)), _images(1, 10, 10)
    candidate = spatial(model, x, Y, Beyond("spatial", 0.8), random=keyed(0, IDS))
    far = torch.full((3,), 0.8).double()
    gains = torch.stack([model.gain(warped(x, far, m, (0.0, 1.0)), x) for m in grid()])
    assert torch.allclose(model.gain(candidate, x), gains.amax(0), atol=1e-6)


def test_the_worst_of_some_members_grows_with_their_number() -> None:
    model, x = Linear((1, 10, 10)), _images(1, 10, 10)
    around = Beyond("spatial", 0.8)
    gains = [
        model.gain(spatial(model, x, Y, around, random=keyed(0, IDS), members=k), x)
        for k in (1, 10, 0)
    ]
    assert bool((gains[0] <= gains[1]).all() & (gains[1] <= gains[2]).all())
    assert float((gains[2] - gains[0]).min()) > 0


@pytest.mark.parametrize("epsilon", [0.03, 0.2])
def test_brightness_moves_nearly_as_well_as_it_can(epsilon: float) -> None:
    """The best flow of a linear model is a linear program; the ascent is within a tenth of it."""
    from scipy.optimize import linprog

    model, x = Linear((1, 6, 5)), _images(1, 6, 5)
    around = Beyond("wasserstein", epsilon)
    candidate = wasserstein(model, x, Y, around, random=keyed(0, IDS), steps=100)
    moves = _incidence(6, 5).toarray()
    slope = model.slope.detach().double().numpy().ravel()
    for row in range(3):
        start = x[row].double().numpy().ravel()
        found = linprog(
            -(slope @ moves),
            A_ub=np.vstack([np.ones((1, moves.shape[1])), moves, -moves]),
            b_ub=np.concatenate([[epsilon * start.sum()], 1 - start, start]),
        )
        assert float(model.gain(candidate, x)[row]) >= -0.9 * found.fun
        assert float(model.gain(candidate, x)[row]) <= -found.fun * (1 + 1e-4)


@pytest.mark.parametrize(("measure", "epsilon"), [("colour", 6.0), ("structure", 0.1)])
def test_an_ascent_is_better_than_a_search_at_random(measure: str, epsilon: float) -> None:
    """40 points in directions of the gradient's half-space, each as far out as is allowed."""
    model, x = Linear((3, 8, 8)), _images(3, 8, 8)
    around = Beyond(measure, epsilon)
    candidate = perceptual(model, x, Y, around, random=keyed(0, IDS))
    random, best = keyed(1, IDS), torch.zeros(3).double()
    for draw in range(40):
        way = random.normal((3, 8, 8), "way", draw) + 0.5 * model.slope.detach()
        best = torch.maximum(best, model.gain(around.project(x + 0.2 * way, x), x))
    assert bool((model.gain(candidate, x) > best).all())
    noise = model.gain(drawn(around, x, random), x)
    assert bool((model.gain(candidate, x) > 2 * noise).all())


@pytest.mark.parametrize("restarts", [1, 2])
def test_the_best_flow_of_all(restarts: int) -> None:
    """Of a linear model each pixel goes for itself to the end of its range that gains."""
    model, x = Linear((1, 6, 5)), _images(1, 6, 5)
    around = Beyond("flow", torch.tensor([0.3, 1.0, 1.6]))
    candidate = flow(model, x, Y, around, random=keyed(0, IDS), restarts=restarts)
    low, high = reachable(x, torch.tensor([0.3, 1.0, 1.6]).double())
    slope, start = model.slope.detach().double(), x.double()
    best = torch.maximum(slope * (low - start), slope * (high - start)).flatten(1).sum(1)
    assert torch.allclose(model.gain(candidate, x), best, rtol=1e-5)


def test_a_second_walk_of_a_flow_begins_elsewhere() -> None:
    """At the input this model has no slope at all; from a random start it has."""
    x = _images(1, 6, 6)

    class Flat(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            score = (z - x[: len(z)]).square().flatten(1).sum(1) - 0.05
            return torch.stack([torch.zeros_like(score), score], 1)

    around = Beyond("flow", 0.8)
    for restarts, won in ((1, 0), (2, 3)):
        candidate = flow(Flat(), x, Y, around, random=keyed(0, IDS), restarts=restarts)
        assert int(Flat()(candidate).argmax(1).sum()) == won


def test_wins_are_returned() -> None:
    """With a bias that a small change overcomes, every attack ends at a misread image."""
    x = _images(3, 8, 8)
    for measure, attack, epsilon in (
        ("patch", patch, 0.1), ("spatial", spatial, 1.0), ("colour", perceptual, 5.0),
        ("structure", perceptual, 0.1), ("wasserstein", wasserstein, 0.2),
    ):  # fmt: skip
        for row in range(3):
            model = Linear((3, 8, 8))
            own = x[row : row + 1]
            model.bias = float((own * model.slope.detach()).sum()) + 1.0
            around = Beyond(measure, epsilon)
            candidate = attack(model, own, Y[:1], around, random=keyed(0, IDS[:1]))  # type: ignore[operator]
            assert int(model(candidate).argmax(1)) == 1, measure


@pytest.mark.parametrize(
    ("attack", "options"),
    [(patch, {"steps": 0}), (patch, {"step": 0.0}), (patch, {"slip": 4}), (patch, {"restarts": 0}),
     (spatial, {"members": -1}), (flow, {"steps": 0}), (flow, {"step": 0.0}),
     (wasserstein, {"step": -1.0}), (perceptual, {"steps": 0})],
)  # fmt: skip
def test_options_that_are_none(attack: object, options: dict[str, float]) -> None:
    measures = {patch: "patch", spatial: "spatial", wasserstein: "wasserstein", flow: "flow"}
    measure = measures.get(attack, "colour")  # type: ignore[call-overload]
    x = _images(1 if attack is flow else 3, 8, 8)
    model, around = Linear(tuple(x.shape[1:])), Beyond(measure, 0.5)
    with pytest.raises(BadOption):
        attack(model, x, Y, around, random=keyed(0, IDS), **options)  # type: ignore[operator]


def test_what_cannot_be_attacked_so() -> None:
    x = torch.rand(3, 5)
    with pytest.raises(NotApplicable, match="measure of images"):
        patch(Linear((5,)), x, Y, Beyond("patch", 0.1), random=keyed(0, IDS))
    ball = Lp("linf", 0.1)
    with pytest.raises(BadOption, match="patch does not know linf, just patch"):
        patch(Linear((5,)), x, Y, ball, random=keyed(0, IDS))
    with pytest.raises(BadInput, match="no classes to reach"):
        patch(
            Linear((1, 8, 8)), _images(1, 8, 8), None, Beyond("patch", 0.1, targeted=True),  # type: ignore[arg-type]
            random=keyed(0, IDS),
        )  # fmt: skip
