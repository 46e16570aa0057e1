"""Lines that enclose each bend, and the linear functions that enclose a maximum."""

import pytest
import torch
from torch.nn import functional

from trustml.bounds._bends import BENDS, Bend, Hinge, MaxPool

ALL: dict[str, Bend] = {**BENDS, "leaky": Hinge(0.2), "identity": Hinge(1.0)}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spread", [0.1, 1.0, 8.0])
def test_lines_enclose_the_bend(name: str, spread: float) -> None:
    """No point between the bounds is outside, and each line touches: else it could be nearer."""
    bend = ALL[name]
    ends = torch.randn(400, 2, dtype=torch.float64) * spread
    lower, upper = ends.amin(1), ends.amax(1)
    lines = bend.lines(lower, upper)
    place = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    x = lower + place * (upper - lower)
    value = bend.forward(x)
    over = value - (lines.low_slope * x + lines.low_offset)
    under = lines.high_slope * x + lines.high_offset - value
    for gap in (over, under):
        assert bool((gap >= -1e-8).all())
        assert float(gap.amin(0).max()) < 1e-2 * spread
    assert bool((value[-1] >= value[0]).all())


def test_a_hinge_s_chord_ends_on_it() -> None:
    """Above a ReLU the chord is the best line: it meets both ends."""
    lower, upper = -torch.rand(50).double(), torch.rand(50).double()
    for slope in (0.0, 0.3):
        bend = Hinge(slope)
        lines = bend.lines(lower, upper)
        for end in (lower, upper):
            high = lines.high_slope * end + lines.high_offset
            assert torch.allclose(high, bend.forward(end), atol=1e-12)


@pytest.mark.parametrize("how", [(2, 2, 0, 1), (3, 2, 1, 1), (2, 1, 0, 2)])
@pytest.mark.parametrize("spread", [0.01, 1.0])
def test_a_maximum_is_enclosed(how: tuple[int, int, int, int], spread: float) -> None:
    """For weights of both signs, at points between the bounds; exact where they meet."""
    kernel, stride, padding, dilation = ((side, side) for side in how)
    pool = MaxPool((2, 6, 6), kernel, stride, padding, dilation)
    middle = torch.randn(5, 2, 6, 6).double()
    lower, upper = middle - spread, middle + spread
    assert torch.equal(pool.forward(middle), functional.max_pool2d(middle, *how))
    weights = torch.randn_like(pool.forward(middle))
    before, constant = pool.back(weights, lower, upper)
    for _ in range(100):
        x = lower + torch.rand_like(lower) * (upper - lower)
        bound = (before * x).flatten(1).sum(1) + constant
        truth = (weights * pool.forward(x)).flatten(1).sum(1)
        assert bool((bound <= truth + 1e-12).all())
    before, constant = pool.back(weights, middle, middle)
    exact = (before * middle).flatten(1).sum(1) + constant
    assert torch.allclose(exact, (weights * pool.forward(middle)).flatten(1).sum(1))
