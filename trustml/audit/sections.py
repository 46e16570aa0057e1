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
        validation: how many validation samples.
        tests: how many test samples.
        outside: how many sets of inputs of no class go with the data.
        shape: of one input.
        classes: how many there are.
        remote: whether a server answers, which is asked over a wire.
        says: what it answers to who asks, whatever else is known of it.
    """

    access: Access
    depth: Depth
    pictures: bool
    budgets: tuple[str, ...]
    linear: bool = False
    training: int = 0
    validation: int = 0
    tests: int = 1000
    outside: int = 0
    shape: tuple[int, ...] = ()
    classes: int = 10
    remote: bool = False
    says: Access = Access.LOGITS

    def by_depth(self, quick: T, standard: T, thorough: T) -> T:
        """Return the value of the audit's depth."""
        return (quick, standard, thorough)[DEPTHS.index(self.depth)]

    def inputs(self, plan: Plan) -> int:
        """Return how many test inputs a plan examines."""
        return min(plan.limit or self.tests, self.tests)


@dataclass(frozen=True, slots=True)
class Section:
    """One section.

    Args:
        name: on disk and in links.
        title: for a reader.
        plan: the base plan (model, data, seed, device) with what this section asks for; raises
            NotApplicable with the reason where it cannot examine such a model.
        judged: the findings of its records.
        passes: at most so many forward and backward passes of single inputs, for an estimate.
        alone: whether the queries of its budget may be asked one by one, and not many at once.
        steps: how many steps of training the copies that it learns take.
    """

    name: str
    title: str
    plan: Callable[[Plan, Subject], Plan]
    judged: Callable[[Sequence[Record]], Iterator[Finding]]
    passes: Callable[[Plan, Subject], tuple[float, float]]
    alone: bool = False
    steps: Callable[[Subject], float] = lambda subject: 0.0
