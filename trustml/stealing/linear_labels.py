"""Softmax regression from labels alone: bisection to the borders, then one null vector."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, prod

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Theft, Victim
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.registry import stealer
from trustml.stealing._borders import Borders, bisected, equations, null_vector, shift_free
from trustml.stealing._copies import AffineCopy
from trustml.stealing._seeds import Seeds, labelled, seeds
from trustml.stealing._segments import balanced, informative
from trustml.victim import least_access, least_budget

LEAST_BITS = 8
GAP = 10.0
BATCH = 40
# Above so many unknowns, choosing segments by what they would tell costs more than it saves.
MOST_DESIGNED = 2000


@stealer(
    source="Lowd, Meek 2005, KDD (two classes); one null vector for K classes: trustml",
    needs=Access.LABELS,
)
def linear_labels(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    bits: int = 20,
    ratio: float = 1.4,
    starts: int | None = None,
    checks: int = 10,
) -> Theft:
    """Find border points by bisection; the parameters are what all of their equations send to 0.

    A class that is never answered gets a logit far below the others, and is named.

    Args:
        bits: halvings a border point; fewer where the budget asks for it, 8 at least.
        ratio: border points for each of the (K-1)(D+1) unknowns.
        starts: labelled points that the segments lie between; 2.5 (D+1), or 40, unless given.
        checks: starts that are asked about again at the end.

    Raises:
        NotApplicable: one class is answered everywhere, or the budget is too small.
        MethodFailed: the victim gave one input two labels.
        BadOption: an option out of its range.
    """
    least_access(victim, Access.LABELS, "linear_labels")
    classes, columns = victim.domain.classes, prod(victim.domain.shape) + 1
    starts = max(40, ceil(2.5 * columns)) if starts is None else starts
    if not (bits >= LEAST_BITS and ratio >= 1.02 and starts >= 2 and checks >= 0):
        raise BadOption(
            f"bits={bits}, ratio={ratio}, starts={starts}, checks={checks}: at least "
            f"{LEAST_BITS} bits, ratio 1.02, 2 starts and 0 checks"
        )
    before, rows = victim.queries, ceil(ratio * (classes - 1) * columns)
    least_budget(victim, 2 * starts + checks + rows * LEAST_BITS, "linear_labels")
    found = seeds(victim, pool, starts, random)
    seen = found.labels.unique()
    if len(seen) < 2:
        raise _one_class(int(seen[0]), victim.queries - before)
    rows = ceil(ratio * (len(seen) - 1) * columns)
    bits = int(min(bits, (victim.left - checks) / rows))
    search = _Search(victim, found, seen, bits, random)
    solution = search.run(rows)
    _same_again(victim, found, int(min(checks, victim.left)))
    table = _with_unseen(solution.table, seen, classes)
    proof = {
        "bits": bits,
        "border points": rows,
        "spectral gap": solution.gap,
        "every class covered": solution.gap >= GAP,
        "classes never answered": sorted(set(range(classes)) - set(seen.tolist())),
        "expected relative error": solution.expected,
        "starts that the copy labels alike": _agreement(table, found),
    }
    whole = solution.gap >= GAP and len(seen) == classes
    copy = AffineCopy(victim.domain, table)
    spent = victim.queries - before
    return Theft(copy, proof, spent, "shift and scale" if whole else "behaviour")


@dataclass(frozen=True, slots=True, eq=False)
class _Solution:
    """The parameters (K, D+1) of norm 1, the equations each over its error's size, and proofs."""

    table: Tensor
    rows: Tensor
    gap: float
    expected: float | None = None


class _Search:
    """Borders between the seen classes, asked for in batches until there are enough."""

    def __init__(
        self, victim: Victim, found: Seeds, seen: Tensor, bits: int, random: torch.Generator
    ) -> None:
        self.victim, self.found, self.seen = victim, found, seen
        self.bits, self.random = bits, random
        self.frame = shift_free(len(seen))
        self.unknown = (len(seen) - 1) * (found.points.shape[1] + 1)
        self.borders: Borders | None = None

    def run(self, rows: int) -> _Solution:
        """Return the solution of so many border points."""
        first = ceil(1.02 * self.unknown)
        while len(self) < first:
            met = self._met()
            pairs = balanced(self._ranked(), met, min(BATCH, first - len(self)), self.random)
            self._bisect(*pairs)
        while len(self) < rows:
            count = min(BATCH, rows - len(self))
            now = self._solved()
            # Without a gap the parameters so far foretell nothing.
            if self.unknown <= MOST_DESIGNED and now.gap >= GAP:
                pairs = informative(
                    self._ranked(), now.table, self.frame, now.rows, count, self.random
                )
            else:
                pairs = balanced(self._ranked(), self._met(), count, self.random)
            self._bisect(*pairs)
        return self._with_error(self._solved())

    def __len__(self) -> int:
        return 0 if self.borders is None else len(self.borders)

    def _ranked(self) -> Seeds:
        """Return the starts, their labels counted among the seen classes."""
        return Seeds(self.found.points, torch.searchsorted(self.seen, self.found.labels))

    def _met(self) -> Tensor:
        if self.borders is None:
            return torch.zeros(len(self.seen))
        both = torch.cat([self.borders.one, self.borders.two])
        return torch.bincount(both, minlength=len(self.seen))

    def _bisect(self, one: Tensor, two: Tensor) -> None:
        start, end = (
            Seeds(self.found.points[rows], self.found.labels[rows]) for rows in (one, two)
        )
        if bool((start.points == end.points).all(1).any()):
            raise _two_labels("one input")
        new = bisected(self.victim, start, end, self.bits)
        known = torch.isin(new.two, self.seen)
        new = Borders(*(part[known] for part in (new.points, new.one, new.two, new.width)))
        new = replace(
            new,
            one=torch.searchsorted(self.seen, new.one),
            two=torch.searchsorted(self.seen, new.two),
        )
        self.borders = new if self.borders is None else self.borders.joined(new)

    def _solved(self) -> _Solution:
        assert self.borders is not None
        plain = equations(self.borders, self.frame)
        size = self.borders.width.norm(dim=1)
        for _ in range(3):
            rows = plain / size[:, None]
            vector, above, least = null_vector(rows)
            table = self.frame @ vector.view(len(self.seen) - 1, -1)
            table = table * _sign(table, self._ranked())
            # How far a border may be off: half its bracket, along which the logits differ by this.
            slope = table[:, :-1][self.borders.one] - table[:, :-1][self.borders.two]
            size = (slope * self.borders.width).sum(1).abs()
            size = size.clamp_min(float(size.median()) * 1e-2)
        return _Solution(table, rows, above / max(least, 1e-300))

    def _with_error(self, found: _Solution) -> _Solution:
        """Return the solution with the error to expect: borders lie anywhere in their brackets."""
        if self.unknown > MOST_DESIGNED or found.gap < GAP:
            return found
        known = (self.frame.T @ found.table).flatten()
        scale = torch.linalg.matrix_norm(found.rows, 2).square()
        information = found.rows.T @ found.rows + scale * torch.outer(known, known)
        variance = torch.linalg.inv(information).trace() / 12
        return replace(found, expected=float(variance.sqrt()))


def _sign(table: Tensor, found: Seeds) -> float:
    """Return the sign with which the labels of the starts are the higher logits."""
    logits = found.points @ table[:, :-1].T + table[:, -1]
    lead = logits.gather(1, found.labels[:, None])[:, 0] - logits.mean(1)
    return 1.0 if float(lead.sum()) >= 0 else -1.0


def _with_unseen(table: Tensor, seen: Tensor, classes: int) -> Tensor:
    """Return the table of all classes; those never answered lie far below anywhere in the box."""
    full = torch.zeros(classes, table.shape[1], dtype=torch.float64)
    full[:, -1] = -1e6 * float(table.abs().max()) * table.shape[1]
    full[seen] = table
    return full


def _agreement(table: Tensor, found: Seeds) -> float:
    logits = found.points @ table[:, :-1].T + table[:, -1]
    return float((logits.argmax(1) == found.labels).double().mean())


def _same_again(victim: Victim, found: Seeds, count: int) -> None:
    again = labelled(victim, found.points[:count]).labels
    changed = int((again != found.labels[:count]).sum())
    if changed:
        raise _two_labels(f"{changed} of {count} inputs")


def _one_class(seen: int, queries: int) -> NotApplicable:
    return NotApplicable(
        f"linear_labels saw class {seen} alone in {queries} queries: give it a pool with inputs of "
        f"other classes"
    )


def _two_labels(what: str) -> MethodFailed:
    return MethodFailed(
        f"the victim labelled {what} otherwise than before: it is random or it changed between "
        f"the queries, and bisection needs labels that stay"
    )
