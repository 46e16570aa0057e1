"""The precision of a search: bfloat16 where the processor computes in it, float32 elsewhere."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trustml.contracts import Classifier


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is done in hardware (AMX, AVX512-BF16, GPUs from Ampere on)."""
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        # torch has no public word for it.
        probes: list[Callable[[], Any]] = [
            getattr(torch.cpu, name, bool)
            for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        ]
        has = device.type == "cpu" and any(probe() for probe in probes)
    return torch.bfloat16 if has else torch.float32


class Reduced:
    """A classifier whose layers compute in another precision; inputs and answers stay float32."""

    def __init__(self, model: Classifier, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return logits (B, K)."""
        with torch.autocast(x.device.type, self._dtype, cache_enabled=False):
            return self._model(x).to(x.dtype)

    def features(self, x: Tensor, /) -> Tensor:
        """Return features (B, D)."""
        with torch.autocast(x.device.type, self._dtype, cache_enabled=False):
            return self._model.features(x).to(x.dtype)
