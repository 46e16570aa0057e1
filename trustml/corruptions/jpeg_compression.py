"""JPEG compression: what storage leaves of a picture."""

from io import BytesIO

import numpy as np
import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.registry import corruption

QUALITY = (80, 65, 58, 50, 40)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def jpeg_compression(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x after a round trip through a JPEG file.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: not used: nothing here is random.
    """
    return torch.stack([_through_a_file(each, QUALITY[severity - 1]) for each in x]).to(x)


def _through_a_file(picture: Tensor, quality: int) -> Tensor:
    from PIL import Image

    pixels = (picture * 255).round().to(torch.uint8).cpu().numpy()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    file.seek(0)
    with Image.open(file) as opened:
        read = np.asarray(opened, dtype=np.float32) / 255
    return torch.from_numpy(read[None] if len(pixels) == 1 else read.transpose(2, 0, 1).copy())
