"""SSIM against a reference implementation and closed forms."""

import pytest
import torch

from trustml.measures.structure import distance, likeness, project


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 16, 40), (2, 1, 11, 11)])
def test_it_is_the_reference_ssim(shape: tuple[int, ...]) -> None:
    """torchmetrics, an independent implementation, with the paper's constants."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    generator = torch.Generator().manual_seed(1)
    one = torch.rand(shape, generator=generator).double()
    other = (one + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)
    _, known = structural_similarity_index_measure(
        one, other, sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    # It pads and keeps the edges; where the window lies within the image there is no padding.
    inner = known[..., 5:-5, 5:-5].flatten(1).mean(1)
    assert torch.allclose(likeness(one, other, 1.0), inner, atol=1e-9)


def test_a_change_of_brightness_alone() -> None:
    """Flat images: variances vanish and the first factor is left, (2ab + c) / (a² + b² + c)."""
    one, other = torch.full((1, 1, 8, 8), 0.25), torch.full((1, 1, 8, 8), 0.75)
    known = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert float(likeness(one, other, 1.0)) == pytest.approx(known, abs=1e-6)


def test_only_the_same_image_is_as_like_as_can_be() -> None:
    x = torch.rand(3, 1, 9, 9, generator=torch.Generator().manual_seed(2))
    other = x.clone()
    other[1, 0, 4, 4] += 1e-7
    far = distance(other, x, torch.zeros(()), (0.0, 1.0))
    assert (far > 0).tolist() == [False, True, False]


def test_a_projection_uses_what_is_allowed() -> None:
    """Along the way from x the loss grows without a jump, so the end of it lies on the border."""
    generator = torch.Generator().manual_seed(3)
    x, wish = (torch.rand(4, 1, 12, 12, generator=generator) for _ in range(2))
    epsilon = torch.tensor(0.05).double()
    point = project(wish, x, epsilon, (0.0, 1.0))
    far = distance(point, x, epsilon, (0.0, 1.0))
    assert bool((far <= epsilon).all())
    assert torch.allclose(far, epsilon.expand(4), rtol=1e-4)
