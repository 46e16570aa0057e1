"""Models that answer at random, read several times: each draw belongs to its sample."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from trustml import metrics
from trustml.access import frozen
from trustml.benchmarks.blocks import varies
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.setting import Setting, check_logits
from trustml.contracts import Score, Split
from trustml.training import seeded

# How often a model that answers at random is read, unless a plan says otherwise.
READINGS = 8
_TIMES, _ROWS = 4, 64


def readings_of(setting: Setting, wanted: int, device: torch.device) -> int:
    """Return how often a random model is read: `wanted`, or as usual; 0 of a steady one."""
    return (wanted or READINGS) if varies(setting.module, setting.split.x.to(device)) else 0


def misread(
    module: nn.Module,
    batch: Split,
    reached: Callable[[Tensor, Tensor], Tensor],
    plan: tuple[int, int],
) -> Tensor:
    """Return in which share (B,) of its readings each input is answered as `reached` wants.

    Each reading of a sample is one call with it alone, after torch's numbers were seeded by its id:
    so it does not depend on the batch, and can be made again.

    Args:
        module: what answers.
        batch: inputs, what `reached` is asked about in the place of the labels, ids.
        reached: logits (1, K) and label (1,) → whether that is so.
        plan: seed, and how many readings.
    """
    seed, times = plan
    counts = torch.zeros(len(batch), dtype=torch.float64)
    with frozen(module), torch.no_grad(), seeded(seed):
        for row in range(len(batch)):
            one = batch.at(slice(row, row + 1))
            for time in range(times):
                torch.manual_seed(_key(seed, int(one.ids[0]), time))
                logits = module(one.x)
                check_logits(logits, batch.classes, "an attack's candidate")
                counts[row] += float(reached(logits, one.y)[0])
    return counts / times


def clean_shares(bench: Bench, seed: int, times: int) -> Tensor:
    """Return in which share (N,) of its readings each sample is misread as it is; made once."""
    shares: dict[int, Tensor] = bench.memory.setdefault("clean shares", {})
    if times not in shares:
        module, split = bench.setting.module, bench.setting.split.to(bench.device)
        shares[times] = misread(module, split, lambda z, y: z.argmax(1) != y, (seed, times))
    return shares[times]


def steadied(bench: Bench, seed: int, times: int) -> Bench:
    """Return the bench with those samples read rightly that are so in all of their readings."""
    if not times:
        return bench
    right = clean_shares(bench, seed, times) == 0
    return replace(bench, setting=replace(bench.setting, right=right))


def repeats(module: nn.Module, x: Tensor, seed: int) -> bool:
    """Return whether a random model answers the same after torch's numbers were seeded the same."""
    with frozen(module), torch.no_grad():
        said = []
        for _ in range(_TIMES):
            with seeded(seed):
                said.append(module(x[:_ROWS]))
    return all(torch.equal(said[0], other) for other in said[1:])


def mean_score(shares: Tensor) -> Score:
    """Return the mean over readings of what is read rightly, its interval that of the samples."""
    right, count = float((1 - shares).sum()), len(shares)
    interval = metrics.proportion(round(right), count)
    value = right / count
    return Score(value, min(interval.low, value), max(interval.high, value), "higher")


def _key(*numbers: int) -> int:
    digest = hashlib.blake2b("/".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
