"""Classes left out of a dataset, to be met only as out-of-distribution inputs."""

from dataclasses import dataclass

import torch

from trustml.contracts import Split
from trustml.errors import BadOption

Parts = tuple[Split, Split, Split]


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Train, validation and test of the chosen classes, their names, and what was held out."""

    parts: Parts
    names: tuple[str, ...]
    held_out: Split | None


def chosen(
    parts: Parts, names: tuple[str, ...], classes: tuple[int, ...] | None, owner: str
) -> Chosen:
    """Return the parts with the given classes alone, numbered anew from 0 in ascending order.

    Test samples of the other classes are held out; their training samples are seen by nobody.

    Args:
        parts: train, validation and test.
        names: of all classes.
        classes: numbers of those to keep; None for all.
        owner: what messages call the dataset.

    Raises:
        BadOption: fewer than two classes, all of them, one twice, or one that there is not.
    """
    if classes is None:
        return Chosen(parts, names, None)
    kept = sorted(set(classes))
    if len(kept) != len(classes) or not 2 <= len(kept) < len(names) or not _known(kept, names):
        raise BadOption(
            f"{owner}:classes={list(classes)} is not allowed: name from 2 to {len(names) - 1} "
            f"different classes of 0 to {len(names) - 1}; the others are held out"
        )
    number = torch.full((len(names),), -1)
    number[torch.tensor(kept)] = torch.arange(len(kept))
    held_out = parts[2].at(number[parts[2].y] < 0)
    train, validation, test = (_renumbered(part, number, len(kept)) for part in parts)
    return Chosen((train, validation, test), tuple(names[k] for k in kept), held_out)


def _known(kept: list[int], names: tuple[str, ...]) -> bool:
    return kept[0] >= 0 and kept[-1] < len(names)


def _renumbered(split: Split, number: torch.Tensor, classes: int) -> Split:
    mine = split.at(number[split.y] >= 0)
    return Split(mine.x, number[mine.y], mine.ids, classes, mine.low, mine.high)
