"""What an attack goes after: its samples, and what a walk needs to know of each."""

from dataclasses import dataclass

from torch import Tensor

from trustml.contracts import Random, Threat


@dataclass(frozen=True, slots=True, eq=False)
class Quarry:
    """The samples that are gone after: inputs, labels, threat and random numbers of B rows.

    `target` (B,) is the class that a walk aims at, `start` (B, *S) the point where it begins,
    `clean` (B, K) the logits of the inputs that it leads away from, where it needs them. A model
    that answers at random is asked `passes` times about each point.
    """

    x: Tensor
    y: Tensor
    threat: Threat
    random: Random
    target: Tensor | None = None
    start: Tensor | None = None
    passes: int = 1
    clean: Tensor | None = None

    def at(self, rows: Tensor) -> "Quarry":
        """Return the quarry of the given rows."""
        return self._cut(rows, rows)

    def between(self, first: int, last: int, rows: Tensor) -> "Quarry":
        """Return the quarry of `rows`, the numbers from `first` to before `last`, uncopied."""
        return self._cut(slice(first, last), rows)

    def _cut(self, near: Tensor | slice, rows: Tensor) -> "Quarry":
        target, start, clean = (
            None if t is None else t[near] for t in (self.target, self.start, self.clean)
        )
        return Quarry(
            self.x[near], self.y[near], self.threat.at(rows), self.random.at(rows), target, start,
            self.passes, clean,
        )  # fmt: skip
