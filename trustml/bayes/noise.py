"""Noise that belongs to a numbered draw: the same for a key always, on every device."""

import hashlib

import torch
from torch import Tensor


def noise(key: str, like: Tensor) -> Tensor:
    """Return standard normal noise in the shape, type and device of `like`, fixed by the key."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    # On the CPU and in float32, so that neither device nor precision changes which draw it is.
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.randn(like.shape, generator=generator).to(like)
