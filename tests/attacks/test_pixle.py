"""Pixle: what it may put where, and a model that is lost with so many copies and no fewer."""

import pytest
import torch
from torch import Tensor

from tests.attacks.two_classes import IDS, linear, spent
from trustml.attacks.pixle import pixle
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

ZERO = torch.zeros(12, dtype=torch.int64)


def halves() -> Tensor:
    """Images of two channels whose left half is white in both, whose right half is black."""
    x = torch.zeros(12, 2, 6, 6)
    x[..., :3] = 1
    return x


def test_white_pixels_are_copied_to_where_they_count() -> None:
    """Lost with five white pixels in the right half: found with five, never with four."""

    def model(x: Tensor) -> Tensor:
        white = (x[..., 3:].sum(1) == 2).sum((1, 2)).float()
        return torch.stack([torch.full_like(white, 4.5), white], 1)

    x = halves()
    found = pixle(model, x, ZERO, Lp("l0", 10.0), random=keyed(0, IDS), queries=800)
    assert bool((model(found).argmax(1) == 1).all())
    assert bool((distance(found, x, "l0") == 10).all())
    less = pixle(model, x, ZERO, Lp("l0", 9.0), random=keyed(0, IDS), queries=300)
    assert not bool((model(less).argmax(1) == 1).any())


def test_whole_pixels_of_the_input_are_copied() -> None:
    """Each pixel of each look is one of the input's, in all channels; no more than may be differ.

    Sources and places come from everywhere: of 40 × 12 draws each of 36 pixels is hit.
    """
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.clone())
        rise = x[:, 0].flatten(1)[:, ::2].sum(1)
        return torch.stack([torch.full_like(rise, 99.0), rise], 1)

    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 2, 6, 6, generator=generator)
    budget = torch.arange(12).double() + 2
    pixle(model, x, ZERO, Lp("l0", budget), random=keyed(0, IDS), queries=41)
    places, sources = torch.zeros(36), torch.zeros(36)
    for look in seen[1:]:
        new, old = look.flatten(2), x.flatten(2)
        same = (new[:, :, :, None] == old[:, :, None]).all(1)
        assert bool(same.any(2).all())
        changed = (new != old).any(1)
        assert bool((changed.sum(1) <= (budget / 2).floor()).all())
        places += changed.sum(0)
        sources += (same & changed[:, :, None]).sum((0, 1))
    assert bool((places > 0).all() & (sources > 0).all())
    # The middle of 36 places is 17.5; five standard errors of hundreds of draws are below 3.
    for hit in (places, sources):
        assert abs(float((hit * torch.arange(36)).sum() / hit.sum()) - 17.5) < 3


def test_a_pixel_costs_its_channels() -> None:
    """One entry is not enough for a pixel of two channels: nothing moves."""
    x = halves()

    def model(z: Tensor) -> Tensor:
        rise = z.flatten(1).sum(1) / 99
        return torch.stack([torch.ones_like(rise), rise], 1)

    found = pixle(model, x, ZERO, Lp("l0", 1.0), random=keyed(0, IDS), queries=30)
    assert torch.equal(found, x)


@pytest.mark.parametrize("queries", [1, 2, 50])
def test_every_query_is_spent_and_none_more(queries: int) -> None:
    assert bool((spent("pixle", "l0", queries=queries) == queries).all())


@pytest.mark.parametrize("options", [{"queries": 0}, {"share": 0.0}, {"share": 1.1}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption, match=next(iter(options))):
        pixle(model, x, y, Lp("l0", 1.0), random=keyed(0, IDS), **options)
