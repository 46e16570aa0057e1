"""Flows against images whose ranges are known, and against reading at very many places."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trustml.beyond import Beyond, drawn
from trustml.errors import NotApplicable
from trustml.measures.flow import TOLERANCE, _read, distance, project, reachable
from trustml.randomness import keyed

BOX = (0.0, 1.0)


def _picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _each(*epsilon: float) -> Tensor:
    return torch.tensor(epsilon, dtype=torch.float64)


def test_a_ramp_is_known() -> None:
    """Values 0, 0.1, … from left to right: epsilon pixels off they differ by a tenth of epsilon."""
    ramp = (torch.arange(8).double() / 10).expand(1, 1, 5, 8)
    for epsilon in (0.0, 0.25, 1.0, 1.5, 2.75):
        low, high = reachable(ramp, _each(epsilon))
        assert torch.allclose(low, (ramp - epsilon / 10).clamp_min(0))
        assert torch.allclose(high, (ramp + epsilon / 10).clamp_max(0.7))


@pytest.mark.parametrize("epsilon", [0.3, 0.999, 1.4, 2.5])
def test_no_place_of_the_square_shows_more_or_less(epsilon: float) -> None:
    """Read at 41 × 41 places: none is outside the range, and the ends are all but reached."""
    x = _picture(1, 1, 5, 6).double()
    low, high = reachable(x, _each(epsilon))
    places = torch.linspace(-epsilon, epsilon, 41, dtype=torch.float64)
    still = torch.ones(1, 5, 6).double()
    values = torch.stack([_read(x, a * still, b * still) for a in places for b in places])
    assert bool((values >= low - 1e-12).all())
    assert bool((values <= high + 1e-12).all())
    step = 2 * epsilon / 40  # between two places a value differs by no more than two of these
    assert float((values.amin(0) - low).abs().max()) <= 2 * step
    assert float((values.amax(0) - high).abs().max()) <= 2 * step


def test_a_whole_move_is_a_shift() -> None:
    """One pixel down and two across, read by the plain indices; at the edge what is there."""
    x = _picture(2, 1, 6, 7)
    still = torch.ones(2, 6, 7).double()
    moved = _read(x, still, 2 * still)
    rows, columns = (torch.arange(6) + 1).clamp(max=5), (torch.arange(7) + 2).clamp(max=6)
    assert torch.allclose(moved, x[:, :, rows][:, :, :, columns].double())
    far = distance(moved.float(), x, torch.tensor(2.0), BOX)
    assert bool((far <= 2 + 1e-9).all())


def test_the_distance_is_the_least_move() -> None:
    """On a ramp a value that lies 0.7 pixels off needs 0.7; one that is nowhere, infinity."""
    ramp = (torch.arange(8).double() / 10).expand(3, 1, 5, 8).clone()
    candidate = ramp.clone()
    candidate[0, 0, 2, 3] += 0.07
    candidate[1, 0, 2, 3] -= 0.3
    candidate[2, 0, 2, 3] = 0.9
    far = distance(candidate, ramp, torch.tensor(0.5), BOX)
    assert far[:2].tolist() == pytest.approx([0.7, 3.0], abs=2 * TOLERANCE / 0.1)
    assert far[2] == float("inf")
    assert distance(ramp, ramp, torch.tensor(0.5), BOX).tolist() == [0.0] * 3


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(0.01, 3.5), st.sampled_from([torch.float32, torch.float64])
)
def test_what_is_made_within_epsilon_is_told_to_be(
    seed: int, epsilon: float, kind: torch.dtype
) -> None:
    """Projections of anything, and pictures read at random places, are allowed as they come."""
    x = _picture(2, 1, 5, 7, seed=seed).to(kind)
    around = Beyond("flow", epsilon)
    anything = _picture(2, 1, 5, 7, seed=seed + 1).to(kind)
    for made in (around.project(anything, x), drawn(around, x, keyed(seed, torch.arange(2)))):
        assert made.dtype == kind
        assert bool(around.contains(made, x).all())
    narrower = Beyond("flow", 0.8 * epsilon)
    beyond_it = ~narrower.contains(project(anything, x, torch.tensor(epsilon), BOX), x)
    low, high = reachable(x, _each(0.8 * epsilon, 0.8 * epsilon))
    pushed = project(anything, x, torch.tensor(epsilon), BOX).double()
    out = ((pushed < low - TOLERANCE) | (pushed > high + TOLERANCE)).flatten(1).any(1)
    assert torch.equal(beyond_it, out)


def test_random_flows_use_their_room() -> None:
    """Of 48 pixels some look nearly as far as they may, and they do not look the same way."""
    x = _picture(1, 1, 6, 8)
    around = Beyond("flow", 0.9)
    first, second = (drawn(around, x, keyed(0, torch.arange(1)), draw) for draw in (0, 1))
    assert 0.5 < float(around.distance(first, x)) <= 0.9
    assert not torch.equal(first, second)


def test_samples_are_on_their_own() -> None:
    """An epsilon for each, and companions that change nothing."""
    x = _picture(3, 1, 6, 6)
    epsilon = torch.tensor([0.2, 1.0, 2.3])
    wish = _picture(3, 1, 6, 6, seed=9)
    together = Beyond("flow", epsilon).project(wish, x)
    for row in range(3):
        alone = Beyond("flow", float(epsilon[row])).project(wish[row : row + 1], x[row : row + 1])
        assert torch.equal(together[row : row + 1], alone)


def test_images_of_one_pixel_width() -> None:
    """A single column has no neighbours across."""
    x = torch.tensor([0.1, 0.5, 0.9]).view(1, 1, 3, 1)
    low, high = reachable(x, _each(0.5))
    assert low.flatten().tolist() == pytest.approx([0.1, 0.3, 0.7])
    assert high.flatten().tolist() == pytest.approx([0.3, 0.7, 0.9])


def test_colours_are_refused() -> None:
    with pytest.raises(NotApplicable, match="one channel; these have 3"):
        Beyond("flow", 0.5).budget(torch.zeros(1, 3, 8, 8))
