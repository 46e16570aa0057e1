"""Contrast reduction where the crossing of the way and the border is known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from tests.attacks.two_classes import IDS, SAMPLES, linear, spent
from trustml.attacks.contrast_reduction import _along, contrast_reduction
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

INFINITE = float("inf")


@pytest.mark.parametrize("towards", ["grey", "inverted"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_crossing_of_a_straight_way(towards: str, norm: str) -> None:
    """A lead that is affine along the way is 0 at lead(x) / (lead(x) - lead(end)); or nowhere."""
    model, x, y = linear((1, 5, 6))
    end = torch.full_like(x, 0.5) if towards == "grey" else 1 - x
    with torch.no_grad():
        here, there = (model(z).gather(1, y[:, None])[:, 0] * 2 - model(z).sum(1) for z in (x, end))
    found = contrast_reduction(
        model, x, y, Lp(norm, INFINITE), random=keyed(0, IDS), queries=60, towards=towards
    )
    lost = there < 0
    assert 0 < int(lost.sum()) < SAMPLES
    with torch.no_grad():
        assert torch.equal(model(found).argmax(1) != y, lost)
    assert torch.equal(found[~lost], x[~lost])
    share = (here / (here - there))[lost].double()
    least = share * distance(end, x, norm)[lost]
    far = distance(found, x, norm)[lost]
    step = distance(end, x, norm)[lost] / 49 / 2**10
    assert bool((far >= least - 1e-5).all())
    assert bool((far <= least + step + 1e-5).all())


def test_a_wave_fades_as_it_should() -> None:
    """Of one cosine e^(-2 σ² sin²(πk / 2N)) is left: read off the σ at which a share is."""
    wave = torch.cos((2 * torch.arange(8.0) + 1) * (2 * math.pi / 16))
    x = (0.5 + 0.4 * wave).expand(1, 1, 8, 8).contiguous()
    y = torch.zeros(1, dtype=torch.int64)

    def strong(z: Tensor) -> Tensor:
        lead = z.amax((1, 2, 3)) - 0.5 - 0.1 * wave.max()
        return torch.stack([lead, torch.zeros_like(lead)], 1)

    sigma = math.sqrt(math.log(4) / 2) / math.sin(math.pi * 2 / 16)
    found = contrast_reduction(
        strong, x, y, Lp("l2", INFINITE), random=keyed(0, y), queries=200, towards="blurred"
    )
    assert torch.allclose(
        found, _along(x, torch.tensor([sigma / 8]), Lp("l2", 1), "blurred"), atol=1e-4
    )
    assert torch.allclose(found, 0.5 + (x - 0.5) / 4, atol=1e-4)


def test_a_blur_is_that_of_scipy() -> None:
    """Edges mirrored; from σ = 2.5 on the grid is fine enough for heat and Gaussian to agree."""
    from scipy.ndimage import gaussian_filter

    x = torch.rand(3, 2, 9, 14, generator=torch.Generator().manual_seed(0))
    for sigma in (2.5, 5.0, 9.0):
        share = torch.full((3,), sigma / 14)
        found = _along(x, share, Lp("l2", 1), "blurred")
        theirs = gaussian_filter(x.double().numpy(), (0, 0, sigma, sigma), truncate=8)
        assert torch.allclose(found.double(), torch.from_numpy(theirs), atol=0.01)
        assert torch.allclose(found.mean((2, 3)), x.mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize("towards", ["grey", "inverted", "blurred"])
def test_a_way_begins_at_home_stays_in_the_box_and_knows_no_company(towards: str) -> None:
    x = torch.rand(7, 3, 6, 5, generator=torch.Generator().manual_seed(1)).round() * 4 - 1
    threat = Lp("l2", 1.0, -1.0, 3.0)
    assert torch.allclose(_along(x, torch.zeros(7).double(), threat, towards), x, atol=1e-6)
    share = torch.linspace(0.01, 1, 7).double()
    whole = _along(x, share, threat, towards)
    assert bool(((whole >= -1) & (whole <= 3)).all())
    assert torch.equal(_along(x[[5, 2]], share[[5, 2]], threat, towards), whole[[5, 2]])


def test_no_more_is_asked_than_allowed() -> None:
    """A model that never errs is asked along the whole way; what is never misread is not halved."""
    assert bool((spent("contrast_reduction", "l2", queries=60) == 50).all())
    assert bool((spent("contrast_reduction", "l2", queries=1) == 1).all())
    assert bool((spent("contrast_reduction", "l2", queries=2) == 2).all())


def test_bad_options_are_refused() -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption, match="queries=0"):
        contrast_reduction(model, x, y, Lp("l2", 0.1), random=keyed(0, IDS), queries=0)
