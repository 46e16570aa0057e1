"""How many samples are in flight at once: as many as was asked, or as the device has room for."""

from collections.abc import Callable

import torch
from torch import Tensor

from trustml.access import block_rows, frozen
from trustml.benchmarks.discipline import Bench
from trustml.deployment import is_remote

AUTO, USUAL = 0, 512
# Share of the free memory that a batch may take, and copies of an input that an attack keeps.
SHARE, COPIES = 0.5, 16
MOST = 1 << 16


def batch_rows(bench: Bench) -> int:
    """Return the plan's batch size; under `auto` what is found once for each model."""
    if bench.plan.batch_size != AUTO:
        return bench.plan.batch_size
    if "batch_rows" not in bench.memory:
        bench.memory["batch_rows"] = found_rows(bench)
    rows: int = bench.memory["batch_rows"]
    return rows


def found_rows(bench: Bench) -> int:
    """Return how many rows the device has room for: a GPU is tried, elsewhere the usual number."""
    setting, device = bench.setting, bench.device
    if device.type != "cuda" or is_remote(setting.module):
        return USUAL
    x = setting.split.x
    kept = COPIES * x[0].numel() * x.element_size()

    def takes(rows: int) -> int:
        more = x[torch.arange(rows) % len(x)].to(device)
        return peak_bytes(setting.module, more) + kept * rows

    free = torch.cuda.mem_get_info(device.index or 0)[0]
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return grown(takes, free + idle, len(x), block_rows(device))


def grown(takes: Callable[[int], int], free: int, samples: int, least: int) -> int:
    """Return a number of rows, doubled from `least` while twice as much stays within the share.

    Args:
        takes: the bytes that so many rows take; raises OutOfMemoryError where they are too many.
        free: bytes there are.
        samples: there is no use in more rows.
        least: rows to begin with; if even they do not fit, batches are halved on the way.
    """
    rows, most = least, min(max(samples, least), MOST)
    try:
        while rows < most and 2 * takes(rows) <= SHARE * free:
            rows *= 2
    except RuntimeError:  # out of memory, or a model that takes no such batch
        rows = max(least, rows // 2)
    return rows


def peak_bytes(module: torch.nn.Module, x: Tensor) -> int:
    """Return what a pass forward and back of x (B, *S) takes of the GPU at most, above before."""
    torch.cuda.synchronize(x.device)
    before = torch.cuda.memory_allocated(x.device)
    torch.cuda.reset_peak_memory_stats(x.device)
    with frozen(module):
        point = x.clone().requires_grad_()
        logits = module(point)
        if logits.requires_grad:
            torch.autograd.grad(logits.logsumexp(1).sum(), point, allow_unused=True)
    torch.cuda.synchronize(x.device)
    return torch.cuda.max_memory_allocated(x.device) - before
