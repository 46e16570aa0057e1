"""Who does the work of a run: this process alone, or others that are sent parts of it first."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.plan import Case
from trustml.contracts import Record
from trustml.errors import BadOption, NotApplicable, TrustError, UnknownName

Executor = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A case that others may do before this process comes to it.

    Args:
        case: with its blank record, and what it is examined with.
        after: the records of the cases that it reads; their files are in the run's folder.
    """

    case: Case
    blank: Record
    bench: Bench
    after: Sequence[Record] = ()


class Crew(Protocol):
    """What has been sent away comes back as files of the run, before this process needs them."""

    def send(self, order: Order) -> None:
        """Send the parts of a case away; what is on disk already is left alone."""
        ...

    def fetch(self, case: str) -> Record | None:
        """Wait until a case's parts are on disk; return its record if all of it was done away.

        Raises:
            TrustError: a part failed; what it says is the case's own failure.
        """
        ...


def crew(executor: str, workers: int, device: str = "cpu") -> AbstractContextManager[Crew | None]:
    """Return the crew of an executor, to be entered; None for this process alone.

    Args:
        executor: one of `Executor`.
        workers: how many at once; 0 is all that there are.
        device: the kind that each of them is to have.

    Raises:
        UnknownName: no such executor.
        BadOption: a number of workers that cannot be.
        MissingPackage: Ray is not installed.
        BadInput: Ray cannot be reached, or has no such device.
    """
    if executor not in get_args(Executor):
        raise UnknownName.of("executor", executor, get_args(Executor))
    if workers < 0:
        raise BadOption(f"--workers must be 0 (all that there are) or more, not {workers}")
    if executor == "local":
        if workers > 1:
            raise BadOption("--workers needs --executor ray: the local one is this process")
        return _alone()
    from trustml.benchmarks.ray_crew import ray_crew

    return ray_crew(workers, device)


def ended(blank: Record, error: TrustError) -> Record:
    """Return the record of a case that ended in an error: skipped, or failed, and why."""
    skipped = isinstance(error, NotApplicable)
    # One line, whatever a plugin's own message holds.
    reason = " ".join(str(error).split())
    return replace(blank, status="skipped" if skipped else "failed", reason=reason)


@contextmanager
def _alone() -> Iterator[None]:
    yield None
