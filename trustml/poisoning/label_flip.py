"""Wrong labels."""

from dataclasses import replace
from typing import Literal

import torch

from trustml.contracts import Random, Split
from trustml.errors import BadOption
from trustml.poisoning._rows import check_class, check_rate, taken
from trustml.registry import poison


@poison(source="Biggio, Nelson, Laskov 2011, ACML (label noise in training)")
def label_flip(
    split: Split,
    /,
    *,
    random: Random,
    rate: float = 0.1,
    how: Literal["uniform", "pairwise"] = "uniform",
    source: int | None = None,
    target: int | None = None,
) -> tuple[Split, None]:
    """Return the split with a share of its labels wrong; the inputs stay as they are.

    Args:
        split: what is poisoned.
        random: the samples' random numbers.
        rate: share of the samples (of the class `source`, if one is named).
        how: a new label is any other class, or always the next one.
        source: flip labels of this class only.
        target: flip all to this class.

    Raises:
        BadOption: a rate outside [0, 1], or a class that is not there.
        BadInput: there are fewer labels to flip than the rate asks for.
    """
    check_rate("label_flip", rate)
    for name, wanted in (("source", source), ("target", target)):
        if wanted is not None:
            check_class("label_flip", name, wanted, split)
    if source is not None and source == target:
        raise BadOption(f"label_flip: source={source} and target={target} are the same class")
    within = torch.ones_like(split.y, dtype=torch.bool) if source is None else split.y == source
    allowed = within if target is None else within & (split.y != target)
    rows = taken(split, allowed, rate, random, of=int(within.sum()))
    if target is not None:
        wrong = torch.full_like(rows, target)
    else:
        step = torch.ones_like(split.y)
        if how == "uniform":
            step += random.integers(split.classes - 1, (1,), "wrong label")[:, 0].to(step.device)
        wrong = ((split.y + step) % split.classes)[rows]
    return replace(split, y=split.y.index_copy(0, rows, wrong)), None
