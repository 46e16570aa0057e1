"""Corruptions against closed forms, the figures of the original code, and what all of them keep."""

import math
from io import BytesIO

import numpy as np
import pytest
import torch
from torch import Tensor

from trustml.corrupting import SEVERITIES, corrupted
from trustml.corruptions.brightness import brightness
from trustml.corruptions.contrast import contrast
from trustml.corruptions.defocus_blur import defocus_blur
from trustml.corruptions.fog import fog
from trustml.corruptions.gaussian_noise import gaussian_noise
from trustml.corruptions.glass_blur import glass_blur
from trustml.corruptions.impulse_noise import impulse_noise
from trustml.corruptions.jpeg_compression import jpeg_compression
from trustml.corruptions.motion_blur import motion_blur
from trustml.corruptions.pixelate import pixelate
from trustml.corruptions.shot_noise import shot_noise
from trustml.corruptions.zoom_blur import zoom_blur
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.randomness import keyed
from trustml.registry import Plugin, all_of

ALL = all_of("corruption")
on_all = pytest.mark.parametrize("plugin", ALL, ids=[plugin.name for plugin in ALL])
IDS = torch.arange(6)
RANDOM = keyed(0, IDS)


def photos(channels: int = 3, side: int = 32) -> Tensor:
    """Return smooth coloured shapes with edges and fine stripes, as photographs have them."""
    place = torch.linspace(0, 1, side)
    down, across = torch.meshgrid(place, place, indexing="ij")
    made = []
    for number in range(6):
        disk = ((down - 0.3 - 0.08 * number) ** 2 + (across - 0.5) ** 2 < 0.06).float()
        stripes = 0.5 + 0.5 * torch.sin(across * (8 + 4 * number) * math.pi)
        parts = [0.2 + 0.6 * down, 0.1 + 0.5 * disk, 0.3 + 0.4 * stripes * (1 - disk)]
        made.append(torch.stack(parts[:channels]))
    return torch.stack(made)


def test_there_are_the_fifteen_of_the_paper() -> None:
    assert {plugin.name for plugin in ALL} >= {
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur",
        "motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast",
        "elastic_transform", "pixelate", "jpeg_compression",
    }  # fmt: skip


@on_all
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (1, 28), (3, 32), (3, 4)])
def test_any_picture_stays_one(plugin: Plugin, channels: int, side: int) -> None:
    """In [0, 1], of its shape, not touched itself, each picture on its own, the same again."""
    x = photos(channels, side)
    twin = x.clone()
    for severity in SEVERITIES:
        changed = plugin.function(x, severity, random=RANDOM)
        assert changed.shape == x.shape
        assert changed.dtype == x.dtype
        assert float(changed.min()) >= 0
        assert float(changed.max()) <= 1
        assert torch.equal(x, twin)
    rows = torch.tensor([4, 1])
    alone = plugin.function(x[rows], 5, random=RANDOM.at(rows))
    assert torch.allclose(alone, changed[rows], atol=1e-6)


@on_all
def test_a_higher_severity_is_farther(plugin: Plugin) -> None:
    """Mean square distance at each severity.

    Where a table changes in kind from one severity to the next, first and last count. Elastic is
    left out: the original shears less, the more it bends. Pixelate's small pixels fit the picture's
    own pattern now better, now worse.
    """
    x = photos()
    far = [float((plugin.function(x, s, random=RANDOM) - x).square().mean()) for s in SEVERITIES]
    assert far[0] > 0
    if plugin.name != "elastic_transform":
        assert far[4] > far[0]
        if plugin.name not in ("glass_blur", "frost", "motion_blur", "pixelate"):
            assert far == sorted(far), far


def test_gaussian_noise_has_the_deviations_of_the_tables() -> None:
    """Far from the walls nothing is cut: mean 0 and the standard deviation, to 4 of its errors."""
    x = torch.full((6, 3, 64, 64), 0.5)
    for severity, deviation in zip(SEVERITIES, (0.04, 0.06, 0.08, 0.09, 0.10), strict=True):
        noise = (gaussian_noise(x, severity, random=RANDOM) - x).double()
        error = deviation / noise.numel() ** 0.5
        assert abs(float(noise.mean())) < 4 * error
        assert abs(float(noise.std()) - deviation) < 4 * error / 2**0.5 + 1e-4


def test_shot_noise_is_poisson() -> None:
    """Mean x and variance x / quanta; the share of none is exp(−rate)."""
    for severity, quanta in zip(SEVERITIES, (500, 250, 100, 75, 50), strict=True):
        for level in (0.02, 0.4):
            x = torch.full((6, 3, 40, 40), level)
            seen = shot_noise(x, severity, random=RANDOM).double()
            error = (level / quanta / seen.numel()) ** 0.5
            assert float(seen.mean()) == pytest.approx(level, abs=5 * error)
            assert float(seen.var()) == pytest.approx(level / quanta, rel=0.06)
            assert torch.allclose((seen * quanta).round(), seen * quanta, atol=1e-3)
    none = float(
        (shot_noise(torch.full((6, 1, 99, 99), 0.02), 5, random=RANDOM) == 0).double().mean()
    )
    assert none == pytest.approx(math.exp(-1), abs=0.01)
    assert not bool(shot_noise(torch.zeros(6, 1, 8, 8), 5, random=RANDOM).any())


def test_impulse_noise_hits_its_share() -> None:
    x = torch.full((6, 3, 64, 64), 0.5)
    for severity, share in zip(SEVERITIES, (0.01, 0.02, 0.03, 0.05, 0.07), strict=True):
        changed = impulse_noise(x, severity, random=RANDOM)
        assert float((changed != x).double().mean()) == pytest.approx(share, rel=0.08)
        assert float((changed == 1).double().sum()) == pytest.approx(
            float((changed == 0).double().sum()), rel=0.15
        )
        assert set(changed.unique().tolist()) == {0.0, 0.5, 1.0}


def test_contrast_keeps_the_means_and_scales_the_rest() -> None:
    x = photos()
    for severity, kept in zip(SEVERITIES, (0.75, 0.5, 0.4, 0.3, 0.15), strict=True):
        changed = contrast(x, severity, random=RANDOM)
        assert torch.allclose(changed.mean((2, 3)), x.mean((2, 3)), atol=1e-6)
        assert torch.allclose(changed.std((2, 3)), kept * x.std((2, 3)), atol=1e-6)


def test_brightness_raises_the_value_alone() -> None:
    """Hue and saturation as the standard library has them."""
    import colorsys

    x = photos()
    changed = brightness(x, 3, random=RANDOM)
    for row, down, across in [(0, 3, 5), (2, 20, 11), (5, 31, 0)]:
        before = colorsys.rgb_to_hsv(*x[row, :, down, across].double().tolist())
        after = colorsys.rgb_to_hsv(*changed[row, :, down, across].double().tolist())
        assert after[:2] == pytest.approx(before[:2], abs=1e-5)
        assert after[2] == pytest.approx(min(before[2] + 0.15, 1), abs=1e-6)
    grey = torch.full((6, 1, 8, 8), 0.2)
    assert torch.allclose(brightness(grey, 5, random=RANDOM), grey + 0.3)
    assert torch.allclose(brightness(0 * photos(), 1, random=RANDOM), torch.tensor(0.05))


@pytest.mark.parametrize("blur", [defocus_blur, glass_blur, motion_blur, zoom_blur, pixelate])
def test_blurs_leave_an_even_picture_alone(blur) -> None:  # type: ignore[no-untyped-def]
    x = torch.full((6, 3, 32, 32), 0.37)
    for severity in SEVERITIES:
        assert torch.allclose(blur(x, severity, random=RANDOM), x, atol=1e-6)


def test_defocus_spreads_a_point_as_the_tables_say() -> None:
    """At severity 5 a disk of radius 1.5: nine pixels, each a ninth but for a bell of 0.1."""
    x = torch.zeros(1, 1, 32, 32)
    x[0, 0, 16, 16] = 1
    spread = defocus_blur(x, 5, random=keyed(0, IDS[:1]))
    assert torch.allclose(spread[0, 0, 15:18, 15:18], torch.tensor(1 / 9), atol=1e-4)
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    # At severity 1 a disk of one pixel, smoothed by a bell of 0.4: its weights on three pixels.
    bell = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / (2 * 0.4**2))
    bell = bell / bell.sum()
    first = defocus_blur(x, 1, random=keyed(0, IDS[:1]))[0, 0, 15:18, 15:18]
    assert torch.allclose(first, bell[:, None] * bell[None], atol=1e-5)


def test_glass_swaps_pixels() -> None:
    """With a blur too narrow to be one (severity 1) the entries are the same in another order."""
    x = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = glass_blur(x, 1, random=RANDOM)
    assert not torch.equal(changed, x)
    assert torch.allclose(changed.flatten(1).sort(1).values, x.flatten(1).sort(1).values, atol=1e-6)


def test_pixelate_shows_means_of_what_a_pixel_covers() -> None:
    """Half of a picture of 4 × 4 … at 0.65 the side is 2 (int of 2.6): each quarter its mean."""
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    changed = pixelate(x, 5, random=keyed(0, IDS[:1]))
    for down in (0, 2):
        for across in (0, 2):
            part = (0, 0, slice(down, down + 2), slice(across, across + 2))
            assert torch.allclose(changed[part], x[part].mean(), atol=1e-6)


def test_jpeg_is_pillows() -> None:
    """PSNR falls with the quality, and the pixels are those of the same file made here."""
    from PIL import Image

    x = photos()
    noise = []
    for severity, quality in zip(SEVERITIES, (80, 65, 58, 50, 40), strict=True):
        changed = jpeg_compression(x, severity, random=RANDOM)
        noise.append(10 * math.log10(1 / float((changed - x).square().mean())))
        pixels = (x[2] * 255).round().byte().permute(1, 2, 0).numpy()
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        known = np.asarray(Image.open(file), dtype=np.float32) / 255
        assert torch.allclose(changed[2], torch.from_numpy(known).permute(2, 0, 1), atol=1e-6)
    assert noise == sorted(noise, reverse=True)
    assert min(noise) > 15


def test_fog_keeps_the_brightest() -> None:
    """(x + c·f)·m / (m + c) is at most m, and m where both are highest."""
    x = photos()
    for severity in SEVERITIES:
        changed = fog(x, severity, random=RANDOM)
        assert bool((changed.amax((1, 2, 3)) <= x.amax((1, 2, 3)) + 1e-6).all())
        assert float(changed.mean()) > 0.1


def test_a_box_that_is_not_0_to_1() -> None:
    """The same picture in [−1, 3] is corrupted to the same picture."""
    x = photos()
    plain = gaussian_noise(x, 3, random=RANDOM)
    wide = corrupted(gaussian_noise, 4 * x - 1, (-1.0, 3.0), 3, {"random": RANDOM})
    assert torch.allclose(wide, 4 * plain - 1, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "severity", "error", "said"),
    [
        (torch.rand(2, 5), 1, NotApplicable, "corrupts pictures"),
        (torch.rand(2, 2, 8, 8), 1, NotApplicable, "not 2 channels"),
        (torch.rand(2, 1, 3, 8), 1, NotApplicable, "3×8 are too small"),
        (torch.rand(2, 1, 8, 8), 6, BadOption, "none of 1, 2, 3, 4, 5"),
        (2 * torch.ones(2, 1, 8, 8), 1, BadInput, "must lie in"),
    ],
)
def test_what_cannot_be_corrupted(
    x: Tensor, severity: int, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        gaussian_noise(x, severity, random=RANDOM)


def test_no_pictures_are_none() -> None:
    assert gaussian_noise(torch.zeros(0, 1, 8, 8), 1, random=keyed(0, IDS[:0])).shape[0] == 0
