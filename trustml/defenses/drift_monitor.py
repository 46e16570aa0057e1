"""Is the mail of the last minutes like the mail that the model was checked on?"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trustml.contracts import Classifier, Random, Split
from trustml.defenses._watching import (
    Scan,
    Watch,
    check_counts,
    check_validation,
    past,
    scanned,
    vectors,
)
from trustml.errors import BadOption
from trustml.registry import safeguard

REFERENCE = 500  # validation samples that others are compared with, at most
NEIGHBOURS = 5
Running = Callable[[Tensor], Tensor]


@safeguard(
    source="CUSUM: Page 1954, Biometrika 41; MMD: Gretton et al. 2012, JMLR 13; KS per dimension: "
    "Rabanser et al. 2019, arXiv:1810.11953",
    stage="monitoring",
    beaten_by="few tampered items among many, or a change that stays within what mail varies by",
    does_not_stop="single items: it needs several to tell; it alarms on honest new mail, too",
)
def drift_monitor(
    model: Classifier,
    validation: Split,
    /,
    *,
    random: Random,
    statistic: Literal["cusum", "mmd", "ks"] = "mmd",
    reads: Literal["pixels", "features"] = "pixels",
    window: int = 20,
    allowance: float = 0.5,
) -> Watch:
    """Return the watch whose suspicion (N,) is how far the latest items are from validation mail.

    Args:
        model: whose features are compared, if they are.
        validation: clean mail. The watch begins as if `window` of it had just come.
        random: draws that mail.
        statistic: "cusum" adds up how much farther each item is from its nearest validation
            samples than they are from each other; "mmd" compares the distributions of the window
            and of the validation samples with a kernel; "ks" takes the dimension whose
            distributions differ most.
        reads: pixels, or the model's features.
        window: items that mmd and ks look at, and that cusum begins after.
        allowance: standard deviations an item that cusum forgives.

    Raises:
        BadOption: a window below 1, or an allowance below 0.
        BadInput: fewer than 10 validation samples.
    """
    check_counts("drift_monitor", window=window)
    if not allowance >= 0:
        raise BadOption(f"drift_monitor: allowance={allowance:g} is not allowed: 0 or more")
    check_validation("drift_monitor", validation, 10)
    clean = past(validation, min(REFERENCE, len(validation)), random)
    known, spread = _scaled(vectors(model, clean, reads).double())
    running = {"cusum": _cusum, "mmd": _mmd, "ks": _ks}[statistic](known, window, allowance)
    before = past(validation, window, random.fold(1))

    def watch(items: Tensor, scan: Scan) -> Tensor:
        stream = torch.cat([before.to(items), scanned(scan, items)])
        found = spread(vectors(model, stream, reads).double())
        return running(found)[window:]

    return watch


def _scaled(known: Tensor) -> tuple[Tensor, Running]:
    """Return vectors (R, D) with the whole's spread as unit, and what scales others as these."""
    # One unit for all dimensions: pixels at the edge hardly ever vary, and would drown the others.
    middle, unit = known.mean(0), known.std(0).square().mean().sqrt().clamp_min(1e-12)
    return (known - middle) / unit, lambda z: (z - middle.to(z)) / unit.to(z)


def _cusum(known: Tensor, window: int, allowance: float) -> Running:
    """Return S_n = max(0, S_(n-1) + z_n - allowance), z_n the standardised distance of item n."""
    own = _distance(known, known, 1)
    middle, unit = own.mean(), own.std().clamp_min(1e-12)

    def running(stream: Tensor) -> Tensor:
        steps = (_distance(stream, known.to(stream), 0) - middle.to(stream)) / unit.to(stream)
        total = (steps - allowance).cumsum(0)
        # S_n is the walk above its lowest point so far, which is 0 at the start at most.
        return total - total.cummin(0).values.clamp_max(0)

    return running


def _distance(x: Tensor, known: Tensor, itself: int) -> Tensor:
    """Return the mean distance (N,) to the nearest known vectors, itself left out."""
    near = min(NEIGHBOURS, len(known) - itself)
    return torch.cdist(x, known).topk(near + itself, largest=False).values[:, itself:].mean(1)


def _mmd(known: Tensor, window: int, _: float) -> Running:
    """Return the squared discrepancy (unbiased) between a window and all known vectors."""
    apart = torch.cdist(known, known)
    width = apart[apart > 0].median() if bool((apart > 0).any()) else apart.new_ones(())
    count = len(known)
    among = (_kernel(apart, width).sum() - count) / (count * (count - 1))

    def running(stream: Tensor) -> Tensor:
        across = _kernel(torch.cdist(stream, known.to(stream)), width.to(stream)).mean(1)
        pairs = torch.zeros_like(across)
        for lag in range(1, min(window, len(stream))):
            far = (stream[lag:] - stream[:-lag]).norm(dim=1)
            pairs[lag:] += _latest(_kernel(far, width.to(stream)), window - lag)
        share = 2 / max(1, window * (window - 1))
        return among.to(stream) + share * pairs - 2 / window * _latest(across, window)

    return running


def _kernel(distance: Tensor, width: Tensor) -> Tensor:
    return torch.exp(-(distance**2) / (2 * width**2))


def _latest(values: Tensor, count: int) -> Tensor:
    """Return the sum (N,) of each value and those before it, `count` in all."""
    total = values.cumsum(0)
    return total - torch.cat([total.new_zeros(min(count, len(total))), total[:-count]])


def _ks(known: Tensor, window: int, _: float) -> Running:
    """Return the largest distance, over dimensions, between the two distribution functions."""
    ordered = known.sort(0).values.T.contiguous()
    ranks = torch.arange(1, window + 1, dtype=torch.float64) / window

    def running(stream: Tensor) -> Tensor:
        columns, step = stream.T.contiguous(), ranks.to(stream)
        levels = [
            torch.searchsorted(ordered.to(stream), columns, right=right).double() / len(known)
            for right in (False, True)
        ]
        below, upto = (part.T.unfold(0, window, 1).sort(-1).values for part in levels)
        # Between two items, the window's share is i / window: compared just before and at each.
        far = torch.maximum(step - upto, below - (step - 1 / window)).amax((1, 2))
        return torch.cat([far.new_zeros(window - 1), far])

    return running
