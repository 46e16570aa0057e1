"""The sections of an audit, in the order in which they are read and run."""

from dataclasses import dataclass

from trustml.audit.backdoor import BACKDOOR
from trustml.audit.black_box import BLACK_BOX
from trustml.audit.doubt import DOUBT
from trustml.audit.explaining import EXPLAINING
from trustml.audit.physical import PHYSICAL
from trustml.audit.robustness import ROBUSTNESS
from trustml.audit.sections import Section, Subject
from trustml.audit.stealing import STEALING
from trustml.benchmarks.plan import Plan
from trustml.errors import NotApplicable

SECTIONS: tuple[Section, ...] = (
    ROBUSTNESS, BLACK_BOX, STEALING, DOUBT, PHYSICAL, BACKDOOR, EXPLAINING,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One section to come: its plan, or why there is none."""

    section: Section
    plan: Plan | None
    reason: str = ""


def agenda(base: Plan, subject: Subject) -> list[Item]:
    """Return every section with its plan, or the reason why it cannot examine such a model."""
    found = []
    for section in SECTIONS:
        try:
            found.append(Item(section, section.plan(base, subject)))
        except NotApplicable as error:
            found.append(Item(section, None, str(error)))
    return found


def work(items: list[Item], subject: Subject, inputs: int) -> tuple[float, float]:
    """Return the forward and backward passes that the sections take at most, of single inputs."""
    forwards, backwards = 0.0, 0.0
    for item in items:
        if item.plan is not None:
            count = min(item.plan.limit or inputs, inputs)
            there, back = item.section.passes(item.plan, subject)
            forwards, backwards = forwards + count * there, backwards + count * back
    return forwards, backwards
