"""Colour differences against published pairs."""

import pytest
import torch

from trustml.measures.colour import ciede2000, distance, project, to_lab

# Sharma, Wu & Dalal 2005, "The CIEDE2000 color-difference formula", Table 1: two CIELAB colours and
# their difference to four decimals. The pairs were chosen to find mistakes in the hue's mean, in
# its sign, at grey, and where implementations are discontinuous.
PAIRS = [
    (50.0, 2.6772, -79.7751, 50.0, 0.0, -82.7485, 2.0425),
    (50.0, 3.1571, -77.2803, 50.0, 0.0, -82.7485, 2.8615),
    (50.0, 2.8361, -74.0200, 50.0, 0.0, -82.7485, 3.4412),
    (50.0, -1.3802, -84.2814, 50.0, 0.0, -82.7485, 1.0000),
    (50.0, -1.1848, -84.8006, 50.0, 0.0, -82.7485, 1.0000),
    (50.0, -0.9009, -85.5211, 50.0, 0.0, -82.7485, 1.0000),
    (50.0, 0.0, 0.0, 50.0, -1.0, 2.0, 2.3669),
    (50.0, -1.0, 2.0, 50.0, 0.0, 0.0, 2.3669),
    (50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0009, 7.1792),
    (50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0010, 7.1792),
    (50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0011, 7.2195),
    (50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0012, 7.2195),
    (50.0, -0.0010, 2.4900, 50.0, 0.0009, -2.4900, 4.8045),
    (50.0, -0.0010, 2.4900, 50.0, 0.0010, -2.4900, 4.8045),
    (50.0, -0.0010, 2.4900, 50.0, 0.0011, -2.4900, 4.7461),
    (50.0, 2.5, 0.0, 50.0, 0.0, -2.5, 4.3065),
    (50.0, 2.5, 0.0, 73.0, 25.0, -18.0, 27.1492),
    (50.0, 2.5, 0.0, 61.0, -5.0, 29.0, 22.8977),
    (50.0, 2.5, 0.0, 56.0, -27.0, -3.0, 31.9030),
    (50.0, 2.5, 0.0, 58.0, 24.0, 15.0, 19.4535),
    (50.0, 2.5, 0.0, 50.0, 3.1736, 0.5854, 1.0000),
    (50.0, 2.5, 0.0, 50.0, 3.2972, 0.0, 1.0000),
    (50.0, 2.5, 0.0, 50.0, 1.8634, 0.5757, 1.0000),
    (50.0, 2.5, 0.0, 50.0, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[6]}")
def test_the_published_pairs(pair: tuple[float, ...]) -> None:
    one, other = (torch.tensor(pair[i : i + 3], dtype=torch.float64) for i in (0, 3))
    assert float(ciede2000(one, other)) == pytest.approx(pair[6], abs=5e-5)
    assert float(ciede2000(other, one)) == pytest.approx(pair[6], abs=5e-5)


def test_known_colours_in_lab() -> None:
    """White is (100, 0, 0), black (0, 0, 0); sRGB red, green and blue as in colour tables (D65)."""
    rgb = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    lab = to_lab(rgb)
    known = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18],
             [32.30, 79.19, -107.86]]  # fmt: skip
    assert torch.allclose(lab, torch.tensor(known, dtype=torch.float64), atol=0.02)


def test_the_distance_is_of_the_worst_pixel_and_knows_the_box() -> None:
    """Black to white is 100 (ΔL = 100, S_L = 1 at the mean lightness 50), on one pixel of many."""
    x = torch.zeros(2, 3, 4, 4)
    moved = x.clone()
    moved[1, :, 2, 3] = 1
    far = distance(moved, x, torch.zeros(()), (0.0, 1.0))
    assert far.tolist() == pytest.approx([0.0, 100.0])
    wide = distance(255 * moved, 255 * x, torch.zeros(()), (0.0, 255.0))
    assert wide.tolist() == pytest.approx([0.0, 100.0])


def test_a_projection_goes_as_far_as_it_may() -> None:
    """Each pixel moves until its own difference is used up, or arrives where it wanted."""
    generator = torch.Generator().manual_seed(0)
    x, wish = (torch.rand(2, 3, 5, 5, generator=generator) for _ in range(2))
    wish[0, :, 0, 0] = x[0, :, 0, 0] + 1e-4
    epsilon = torch.tensor([2.0, 7.0]).double().view(-1, 1, 1, 1)
    point = project(wish, x, epsilon, (0.0, 1.0))
    apart = ciede2000(*(to_lab(image.movedim(1, -1)) for image in (x, point)))
    assert torch.equal(point[0, :, 0, 0], wish[0, :, 0, 0])
    apart[0, 0, 0] = 2.0
    assert torch.allclose(apart, epsilon.view(2, 1, 1), rtol=1e-4)
