"""One picture file as one input of a model."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trustml.contracts import Domain
from trustml.errors import BadInput, NotApplicable


def read_image(path: str | Path, domain: Domain) -> Tensor:
    """Return the picture as an input (1, C, H, W) of the domain: its channels, size and bounds.

    Raises:
        BadInput: there is no such file, or it is no picture.
        NotApplicable: the domain's inputs are no pictures of one or three channels.
    """
    return picture_and_change(path, domain)[0]


def picture_and_change(path: str | Path, domain: Domain) -> tuple[Tensor, str]:
    """Return the picture as an input (1, C, H, W), and what was done to it; "" for nothing.

    Raises:
        BadInput: there is no such file, or it is no picture.
        NotApplicable: the domain's inputs are no pictures of one or three channels.
    """
    from PIL import Image, ImageOps

    if len(domain.shape) != 3 or domain.shape[0] not in (1, 3):
        raise NotApplicable(
            f"inputs of shape {domain.shape} are no pictures; name a row of the test set instead"
        )
    channels, height, width = domain.shape
    try:
        with Image.open(path) as opened:
            turned = ImageOps.exif_transpose(opened)
            upright = turned.convert("L" if channels == 1 else "RGB")
            shown = upright.resize((width, height), Image.Resampling.LANCZOS)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as a picture: {error}") from error
    size = f"{upright.width}×{upright.height}"
    changes = []
    if turned.mode != upright.mode:
        grey = f"made grey from {turned.mode} (0.299 R + 0.587 G + 0.114 B)"
        changes.append(grey if channels == 1 else f"turned from {turned.mode} into RGB")
    if upright.size != shown.size:
        into = f"{width}×{height}"
        bent = ", its shape not kept" if upright.width * height != upright.height * width else ""
        changes.append(f"resized from {size} to {into} pixels (Lanczos{bent})")
    values = torch.from_numpy(np.asarray(shown, dtype=np.float32) / 255)
    values = values[None] if channels == 1 else values.permute(2, 0, 1)
    x = (domain.low + (domain.high - domain.low) * values)[None].contiguous()
    return x, " and ".join(changes)
