"""Training data that drift away, a little more with each sample."""

from dataclasses import replace
from typing import Literal

import torch

from trustml.contracts import Random, Split
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.poisoning._rows import check_rate
from trustml.registry import poison


@poison(source="Kloft, Laskov 2010, AISTATS (slow poisoning of a learner that is retrained)")
def drift(
    split: Split,
    /,
    *,
    random: Random,
    rate: float = 0.3,
    amount: float = 0.5,
    of: Literal["brightness", "contrast"] = "brightness",
) -> tuple[Split, None]:
    """Return the split whose latest samples (highest ids) drift, from nothing up to `amount`.

    Args:
        split: what is poisoned.
        random: not asked: drift is no matter of chance.
        rate: share of the samples that drift, the latest ones.
        amount: of the last sample: brightness rises by this share of the box, or this share of the
            contrast goes; in [0, 1].
        of: what drifts.

    Raises:
        BadOption: a share outside [0, 1].
    """
    check_rate("drift", rate)
    check_rate("drift", amount, "amount")
    count = round(rate * len(split))
    if not count:
        return split, None
    rows = split.ids.argsort()[len(split) - count :]
    grown = torch.arange(1, count + 1, device=split.x.device) / count * amount
    x, growth = split.x[rows], like(grown, split.x[rows])
    if of == "brightness":
        moved = x + growth * (split.high - split.low)
    elif of == "contrast":
        moved = x + growth * (x.flatten(1).mean(1).view_as(growth) - x)
    else:
        raise BadOption(f"drift: of={of!r} is not allowed: brightness or contrast")
    moved = moved.clamp(split.low, split.high)
    return replace(split, x=split.x.index_copy(0, rows, moved)), None
