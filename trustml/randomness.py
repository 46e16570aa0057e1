"""Random numbers that belong to samples: keyed by (seed, sample id, purpose, step), not by batch.

A counter-based generator in plain integer arithmetic: the same numbers on every device, for every
batch size, order and shard. The idea: Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"; the mixing is MurmurHash3's 32-bit finaliser with two keys a sample.
"""

import hashlib
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Devices whose words numpy scrambles: it shifts them as they are, and its calls cost less.
HOSTS = ("cpu",)
_WORD = 0xFFFFFFFF
_ROUNDS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35))


@dataclass(frozen=True, slots=True, eq=False)
class Keyed:
    """One stream of random numbers a sample. `keys` (B, 2) int32 are all that it holds."""

    keys: Tensor

    def uniform(self, shape: tuple[int, ...], purpose: str, step: int = 0) -> Tensor:
        """Return float32 (B, *shape) in [0, 1), multiples of 2^-24."""
        bits = self._bits(prod(shape), purpose, step, dropped=8)
        return bits.to(torch.float32).mul_(2.0**-24).view(-1, *shape)

    def normal(self, shape: tuple[int, ...], purpose: str, step: int = 0) -> Tensor:
        """Return float32 (B, *shape), standard normal up to 6.3 standard deviations."""
        bits = self._bits(prod(shape), purpose, step).to(torch.float64)
        # Computed in float64, so that a device's last-digit differences vanish in the rounding.
        return torch.special.ndtri((bits + (2.0**31 + 0.5)) * 2.0**-32).float().view(-1, *shape)

    def integers(self, high: int, shape: tuple[int, ...], purpose: str, step: int = 0) -> Tensor:
        """Return int64 (B, *shape) in 0..high-1, high up to 2^24.

        Raises:
            ValueError: `high` is not in 1..2^24.
        """
        if not 1 <= high <= 1 << 24:
            raise ValueError(f"integers below {high}: the bound must be in 1..2^24")
        bits = self._bits(prod(shape), purpose, step).long() & _WORD
        return ((bits * high) >> 32).view(-1, *shape)

    def at(self, rows: Tensor, /) -> "Keyed":
        """Return the streams of the given rows."""
        return Keyed(self.keys[rows])

    def fold(self, number: int | Tensor, /) -> "Keyed":
        """Return an independent stream for each sample and number (B,), such as a restart."""
        number = torch.as_tensor(number, device=self.keys.device).to(torch.int32)
        first, second = self.keys.unbind(1)
        mixed = _mix(_mix(first ^ number) + second)
        return Keyed(torch.stack([mixed, _mix(mixed ^ second ^ 0x5BD1E995)], dim=1))

    def _bits(self, count: int, purpose: str, step: int, dropped: int = 0) -> Tensor:
        """Return int32 words (B, count), without the lowest of their 32 bits."""
        digest = hashlib.blake2b(f"{purpose}/{step}".encode(), digest_size=8).digest()
        if self.keys.device.type in HOSTS:
            salts = np.frombuffer(digest, "<u4")
            words = _words(self.keys.numpy().view(np.uint32), salts, count)
            words = np.right_shift(words, dropped, out=words) if dropped else words
            return torch.from_numpy(words.view(np.int32))
        salt = [int.from_bytes(digest[half : half + 4], "little", signed=True) for half in (0, 4)]
        first, second = self.keys[:, :, None].unbind(1)
        first = _mix(first ^ salt[0])
        second = _mix(second ^ salt[1]) + first
        counter = torch.arange(count, dtype=torch.int32, device=self.keys.device)
        word = _mix_(counter[None] ^ first)
        word = _mix_(word.add_(second))
        return _shift(word, dropped) if dropped else word


def keyed(seed: int, ids: Tensor) -> Keyed:
    """Return the streams of samples `ids` (B,) int64 under `seed`, independent of each other."""
    digest = hashlib.blake2b(f"trustml/{seed}".encode(), digest_size=8).digest()
    salt = [int.from_bytes(digest[half : half + 4], "little", signed=True) for half in (0, 4)]
    low, high = _narrow(ids), _narrow(ids >> 32)
    first = _mix(_mix(low ^ salt[0]) + high)
    return Keyed(torch.stack([first, _mix(_mix(low ^ salt[1]) ^ _mix(high + first))], dim=1))


def _narrow(words: Tensor) -> Tensor:
    """Return the low 32 bits as int32, wrapping as C does."""
    low = words.long() & _WORD
    return torch.where(low > 0x7FFFFFFF, low - (1 << 32), low).to(torch.int32)


def _mix(word: Tensor) -> Tensor:
    return _mix_(word.clone())


def _mix_(word: Tensor) -> Tensor:
    """Scramble int32 words in place (MurmurHash3 fmix32)."""
    for distance, factor in _ROUNDS:
        word ^= _shift(word, distance)
        word *= factor - (1 << 32)
    return word.bitwise_xor_(_shift(word, 16))


def _shift(word: Tensor, distance: int) -> Tensor:
    """Return the logical right shift of int32 words (torch's is arithmetic)."""
    return (word >> distance).bitwise_and_((1 << (32 - distance)) - 1)


def _words(keys: Any, salts: Any, count: int) -> Any:
    """Return uint32 words (B, count) of keys (B, 2): on other devices the same bits."""
    first = _scrambled(keys[:, :1] ^ salts[0])
    second = _scrambled(keys[:, 1:] ^ salts[1]) + first
    words = _scrambled(np.arange(count, dtype=np.uint32)[None] ^ first)
    words += second
    return _scrambled(words)


def _scrambled(words: Any) -> Any:
    """Scramble uint32 words in place, as `_mix_` does."""
    shifted = np.empty_like(words)
    for distance, factor in _ROUNDS:
        words ^= np.right_shift(words, distance, out=shifted)
        words *= np.uint32(factor)
    words ^= np.right_shift(words, 16, out=shifted)
    return words
