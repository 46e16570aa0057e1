"""Levels at which clamped terms add up: against a sort of all breakpoints, row by row."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trustml import crossings
from trustml.crossings import crossing, level


def scene(seed: int, entries: int, rows: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sizes, of which some have no room or some ties, and what they have over (B, 2, D)."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(rows, entries, generator=generator, dtype=torch.float64)
    size = torch.where(torch.rand(rows, entries, generator=generator) < 0.3, 0.25, size)
    room = torch.rand(rows, entries, generator=generator, dtype=torch.float64)
    both = torch.stack([size, (size - room).clamp(min=0)], 1)
    far = size.sum(1, keepdim=True) * torch.rand(rows, 1, generator=generator, dtype=torch.float64)
    return both, far


def spent(both: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Return Σ clamp(size − t, 0, room) (B, 1)."""
    size, over = (both - found[:, :, None]).clamp(min=0).unbind(1)
    return (size - over).sum(1, keepdim=True)


def by_sorting(both: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
    """Return the level (B, 1): between the two breakpoints around it the sum is a straight line."""
    found = torch.zeros_like(far)
    for row, (some, most) in enumerate(zip(both, far, strict=True)):
        edges = torch.cat([torch.zeros(1, dtype=some.dtype), some.flatten().sort().values])
        sums = torch.cat([spent(some[None], edge.view(1, 1)) for edge in edges])[:, 0]
        if sums[0] <= most:
            continue
        last = int((sums > most).nonzero().max())
        steep = (sums[last] - sums[last + 1]) / (edges[last + 1] - edges[last])
        found[row] = edges[last] + (sums[last] - most[0]) / steep
    return found


@given(seed=st.integers(0, 2**31), entries=st.integers(1, 30))
def test_the_level_is_that_between_two_breakpoints(seed: int, entries: int) -> None:
    """The sum is piecewise straight, so that its crossing can be had from a sort; ties included."""
    both, far = scene(seed, entries)
    found = level(both, far, 64)
    assert torch.allclose(spent(both, found), torch.minimum(far, spent(both, 0 * far)), atol=1e-12)
    assert torch.allclose(found, by_sorting(both, far), atol=1e-9)
    assert bool((found >= 0).all())


@pytest.mark.parametrize("steps", [1, 2])
def test_rows_that_are_not_settled_are_searched_for(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too few of Newton's steps the slower search must find the same levels."""
    both, far = scene(1, 40, rows=50)
    truth = level(both, far, 64)
    monkeypatch.setattr(crossings, "_NEWTON", steps)
    assert torch.allclose(level(both, far, 64), truth, atol=1e-12)


def test_a_level_depends_on_no_companion() -> None:
    """Alone or among others that need more steps: the same bits, in float32 as in float64."""
    for kind in (torch.float32, torch.float64):
        both, far = (part.to(kind) for part in scene(2, 300, rows=40))
        together = level(both, far, 12)
        alone = [level(both[row : row + 1], far[row : row + 1], 12) for row in range(40)]
        assert torch.equal(together, torch.cat(alone))


def test_newton_s_steps_settle_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing is won by them: of 200 rows one in fifty may be left to the slower search."""
    left = []
    usual = crossings._searched
    monkeypatch.setattr(
        crossings, "_searched", lambda both, *rest: left.append(len(both)) or usual(both, *rest)
    )
    both, far = (part.float() for part in scene(3, 784, rows=200))
    level(both, far, 12)
    assert sum(left) <= 4


def test_where_nothing_need_shrink_the_level_is_0() -> None:
    """No moves at all, in a ball without width or with; and moves that a wide ball holds."""
    both = torch.stack([torch.zeros(3, 2, 5), torch.ones(3, 2, 5)]).flatten(0, 1)
    far = torch.tensor([0.0, 1.0, torch.inf, 1.0, 0.0, torch.inf])[:, None]
    assert level(both, far, 12).flatten().tolist() == [0.0] * 6


def test_a_crossing_is_found_to_the_last_bits() -> None:
    """Where a³ = 2, and nowhere to the right of an edge that lies beyond it."""
    above, below = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), 2.0).double()
    found = crossing(lambda a: 2 - a**3, above, below, 64)
    assert found.item() == pytest.approx(2 ** (1 / 3), rel=1e-15)
    assert crossing(lambda a: 2 - a**3, below, 2 * below, 64).item() == 2
