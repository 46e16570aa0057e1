"""Inputs with their explanations, and what the model makes of many changed copies of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.contracts import Classifier
from trustml.errors import BadInput

Output = Literal["logit", "probability", "answer"]
Explain = Callable[[Tensor, Tensor], Tensor]
# Entries of changed copies that are held at once: 64 MiB in float32.
MOST_ENTRIES = 1 << 24
# Rows to one forward pass: what a processor's cache holds, or what fills a graphics card.
_ROWS_AT_ONCE = {"cpu": 64}
_MANY_ROWS = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """Inputs x (B, *S), the classes explained (B,), and their maps (B, *S).

    `influence` says that the maps live in gradient space: then an entry's part in the difference
    from a baseline is the map times the entry's distance from it.
    """

    x: Tensor
    target: Tensor
    maps: Tensor
    influence: bool

    def __post_init__(self) -> None:
        """Check that the four fit.

        Raises:
            BadInput: shapes that do not fit, or maps that are not finite.
        """
        if self.maps.shape != self.x.shape or self.target.shape != self.x.shape[:1]:
            raise BadInput(
                f"maps {tuple(self.maps.shape)} and targets {tuple(self.target.shape)} do not fit "
                f"inputs {tuple(self.x.shape)}"
            )
        if not len(self.x) or not bool(self.maps.isfinite().all()):
            raise BadInput("there must be at least one map, and finite numbers in every one")

    def parts(self, baseline: Tensor) -> Tensor:
        """Return what each entry has of the difference from the baseline, (B, *S) in float64."""
        maps = self.maps.double()
        return maps * (self.x.double() - baseline.double()) if self.influence else maps

    def at(self, rows: Tensor | slice) -> "Explained":
        """Return the given rows."""
        return Explained(self.x[rows], self.target[rows], self.maps[rows], self.influence)


def worth(model: Classifier, x: Tensor, target: Tensor, output: Output = "logit") -> Tensor:
    """Return what the model gives the class (B,), float64: its logit, probability, or 1 if chosen.

    Raises:
        BadInput: a target that is no class of the model.
    """
    with frozen(model), torch.no_grad():
        logits = in_blocks(model, x, min(len(x), _ROWS_AT_ONCE.get(x.device.type, _MANY_ROWS)))
    if int(target.max()) >= logits.shape[1]:
        raise BadInput(f"the model has {logits.shape[1]} classes, and {int(target.max())} is asked")
    if output == "answer":
        return (logits.argmax(1) == target).double()
    shown = logits if output == "logit" else logits.double().softmax(1)
    return shown.gather(1, target[:, None])[:, 0].double()


def worths(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    copies: int,
    change: Callable[[slice], Tensor],
    output: Output = "logit",
) -> Tensor:
    """Return (B, copies): what the model gives each changed copy, many inputs to one forward pass.

    Args:
        model: gives logits.
        x: inputs (B, *S).
        target: classes (B,).
        copies: changed copies of each input.
        change: rows → their copies (rows, copies, *S).
        output: which number.
    """
    values = []
    for rows in chunks(x, copies):
        changed = change(rows)
        wanted = target[rows].repeat_interleave(copies)
        values.append(worth(model, changed.flatten(0, 1), wanted, output).view(-1, copies))
    return torch.cat(values)


def chunks(x: Tensor, copies: int, count: int | None = None) -> Iterator[slice]:
    """Yield runs of rows whose copies fit in memory together; of `count` rows, or those of x."""
    size, count = max(1, MOST_ENTRIES // max(1, copies * x[0].numel())), count or len(x)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def places(values: Tensor) -> Tensor:
    """Return values (B, *S) by place (B, P): an image's channels are added up."""
    return values.sum(1).flatten(1) if values.dim() == 4 else values.flatten(1)


def spread(chosen: Tensor, x: Tensor) -> Tensor:
    """Return what is said of places (…, P) for every entry (…, *S): all channels alike."""
    if x.dim() != 4:
        return chosen.view(*chosen.shape[:-1], *x.shape[1:])
    image = chosen.view(*chosen.shape[:-1], 1, *x.shape[2:])
    return image.expand(*chosen.shape[:-1], *x.shape[1:])


def generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(seed)
