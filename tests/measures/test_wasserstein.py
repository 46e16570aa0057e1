"""The work of moving brightness against closed forms, and flows that stay allowed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml.measures._transport import Flow
from trustml.measures.wasserstein import balanced, distance, mass, project

BOX = (0.0, 1.0)
NONE = torch.zeros(())


def _images(*rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(list(rows))[:, None]


def test_one_pixel_moved() -> None:
    """Half of all the mass goes 1 right and 2 down: 3 pixels of half the mass, 1.5."""
    x = _images([[0.5, 0, 0.5], [0, 0, 0], [0, 0, 0]])
    moved = _images([[0, 0, 0.5], [0, 0, 0], [0, 0.5, 0]])
    assert distance(moved, x, NONE, BOX).tolist() == pytest.approx([1.5])


@pytest.mark.parametrize("seed", range(5))
def test_on_a_line_it_is_the_area_between_the_sums(seed: int) -> None:
    """In one dimension W1 = Σ |F(i) − G(i)|, the area between the cumulated masses; scipy's."""
    from scipy.stats import wasserstein_distance

    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 1, 1, 12, generator=generator)
    candidate = x.flip(3)
    apart = (candidate - x).double().cumsum(3).abs().sum() / x.double().sum()
    far = float(distance(candidate, x, NONE, BOX))
    assert far == pytest.approx(float(apart), rel=1e-6)
    place = np.arange(12)
    known = wasserstein_distance(place, place, x.flatten().double(), candidate.flatten().double())
    assert far == pytest.approx(known, rel=1e-5)


def test_the_cheapest_matching_of_pixels() -> None:
    """Equal masses: the least sum of city-block ways over all matchings (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    generator = np.random.default_rng(0)
    for _ in range(5):
        spots = generator.choice(49, 12, replace=False)
        one, other = spots[:6], spots[6:]
        pairs = zip(np.divmod(one, 7), np.divmod(other, 7), strict=True)
        pairs = zip(np.divmod(one, 7), np.divmod(other, 7), strict=True)
        ways = sum(np.abs(first[:, None] - second[None]) for first, second in pairs)
        rows, columns = linear_sum_assignment(ways)
        x, candidate = torch.zeros(2, 1, 1, 7, 7).unbind(0)
        x.view(-1)[one], candidate.view(-1)[other] = 0.5, 0.5
        far = float(distance(candidate, x, NONE, BOX))
        assert far == pytest.approx(ways[rows, columns].sum() / 6, rel=1e-6)


def test_mass_made_or_lost_is_not_moved() -> None:
    x = torch.full((2, 1, 4, 4), 0.5)
    candidate = x.clone()
    candidate[1, 0, 0, 0] = 0.6
    assert distance(candidate, x, NONE, BOX).tolist() == [0.0, float("inf")]


def test_channels_do_not_mix() -> None:
    """Mass that leaves red and enters green was lost in one and made in the other."""
    x = torch.zeros(1, 3, 3, 3)
    x[0, 0, 1, 1] = 0.5
    candidate = x.roll(1, dims=1)
    assert distance(candidate, x, NONE, BOX).tolist() == [float("inf")]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_projections_are_allowed_and_keep_the_mass(seed: int, epsilon: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 1, 5, 4, generator=generator)
    x = torch.where(x < 0.3, 0.0, x)
    wish = 3 * torch.rand(2, 1, 5, 4, generator=generator) - 1
    budget = torch.tensor(epsilon).double()
    point = project(wish, x, budget, BOX)
    assert float(point.min()) >= 0
    assert float(point.max()) <= 1
    assert torch.allclose(mass(point, BOX), mass(x, BOX), atol=1e-5)
    assert bool((distance(point, x, budget, BOX) <= budget).all())


def test_the_nearest_image_of_the_same_mass() -> None:
    """Without walls in reach the surplus is taken off evenly: the projection onto a hyperplane."""
    x, wish = torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), 0.5)
    wish[0, 0, 0, 0] = 0.66
    near = balanced(wish, x, BOX)
    assert torch.allclose(near, wish - 0.01, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_allowed_flows_stay_in_the_box(seed: int) -> None:
    """But for crumbs, and without growing; what passes through a black pixel is not stopped."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 1, 5, 5, generator=generator).double().round()
    parts = [
        torch.randn(1, 1, 5, 4, generator=generator),
        torch.randn(1, 1, 4, 5, generator=generator),
    ]
    flow = Flow(*(part.double() for part in parts))
    less = flow.allowed(x, BOX, rounds=200)
    image = x + less.change()
    assert float(image.min()) > -1e-3
    assert float(image.max()) < 1 + 1e-3
    assert float(less.work()) <= float(flow.work())
    assert float(image.sum()) == pytest.approx(float(x.sum()))


def test_brightness_passes_through_dark_pixels() -> None:
    x = _images([[1.0, 0.0, 0.0]]).double()
    flow = Flow(torch.ones(1, 1, 1, 2).double(), torch.zeros(1, 1, 0, 3).double())
    assert torch.equal(x + flow.allowed(x, BOX).change(), _images([[0.0, 0.0, 1.0]]).double())


def test_a_shorter_flow_is_the_nearest() -> None:
    """The L1 ball's projection takes the same from each size: (3, 1) within 2 is (2, 0)."""
    flow = Flow(torch.tensor([[[[3.0, -1.0]]]]), torch.zeros(1, 1, 0, 3))
    assert flow.within(torch.tensor([2.0])).right.tolist() == [[[[2.0, 0.0]]]]
    assert flow.within(torch.tensor([3.0])).right.tolist() == [[[[2.5, -0.5]]]]
    assert flow.within(torch.tensor([9.0])).right.tolist() == [[[[3.0, -1.0]]]]
