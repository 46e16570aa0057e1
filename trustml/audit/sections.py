"""What a section of an audit must offer, and what it is planned by."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from trustml.audit.findings import Finding
from trustml.benchmarks.plan import Plan
from trustml.contracts import Access, Record

Depth = Literal["quick", "standard", "thorough"]
DEPTHS: tuple[Depth, ...] = get_args(Depth)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a section may know of a model before it examines it.

    Args:
        access: what may be seen of the model.
        depth: how much is to be done.
        pictures: whether its inputs have two spatial axes.
        budgets: norms that the data have a usual budget for.
        linear: whether the fingerprint says that the model is affine.
        training: how many training samples the data have.
    """

    access: Access
    depth: Depth
    pictures: bool
    budgets: tuple[str, ...]
    linear: bool = False
    training: int = 0

    def by_depth(self, quick: T, standard: T, thorough: T) -> T:
        """Return the value of the audit's depth."""
        return (quick, standard, thorough)[DEPTHS.index(self.depth)]


@dataclass(frozen=True, slots=True)
class Section:
    """One section.

    Args:
        name: on disk and in links.
        title: for a reader.
        plan: the base plan (model, data, seed, device) with what this section asks for; raises
            NotApplicable with the reason where it cannot examine such a model.
        judged: the findings of its records.
        passes: at most so many forward and backward passes an examined input, for an estimate.
    """

    name: str
    title: str
    plan: Callable[[Plan, Subject], Plan]
    judged: Callable[[Sequence[Record]], Iterator[Finding]]
    passes: Callable[[Plan, Subject], tuple[float, float]]
