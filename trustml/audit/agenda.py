"""The sections of an audit, in the order in which they are read and run, and what they take."""

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
# What a section asks of a server before anything else: it opens the model.
_OPENING = 24


@dataclass(frozen=True, slots=True)
class Item:
    """One section to come: its plan, or why there is none."""

    section: Section
    plan: Plan | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a model takes for one input.

    Args:
        together: seconds of a forward pass, where many inputs are asked about at once.
        alone: the same of one input asked about alone: over a wire it is the whole way there.
        back: seconds of a backward pass.
        rate: requests a second that a server allows; 0 sets no limit.
        batch: inputs a request holds at most.
        opening: seconds that a section takes to begin: data are read, and the model opened.
        step: seconds of a step of training a copy of the model.
    """

    together: float
    alone: float
    back: float = 0.0
    rate: float = 0.0
    batch: int = 1
    opening: float = 0.0
    step: float = 0.0


def agenda(base: Plan, subject: Subject) -> list[Item]:
    """Return every section with its plan, or the reason why it cannot examine such a model."""
    found = []
    for section in SECTIONS:
        try:
            found.append(Item(section, section.plan(base, subject)))
        except NotApplicable as error:
            found.append(Item(section, None, str(error)))
    return found


def work(item: Item, subject: Subject) -> tuple[float, float]:
    """Return the forward and backward passes of single inputs that a section takes at most."""
    if item.plan is None:
        return 0.0, 0.0
    there, back = item.section.passes(item.plan, subject)
    return there + subject.inputs(item.plan) + (_OPENING if subject.remote else 0), back


def seconds(item: Item, subject: Subject, pace: Pace) -> float:
    """Return how long a section takes, by the pace and by the rate that a server allows."""
    there, back = work(item, subject)
    if item.plan is None:
        return 0.0
    alone = item.plan.budget if item.section.alone else 0
    together = there - alone
    taken = alone * pace.alone + together * pace.together + back * pace.back
    if pace.rate:
        rows = min(pace.batch, subject.inputs(item.plan))
        taken = max(taken, (alone + together / rows) / pace.rate)
    return taken + pace.opening + item.section.steps(subject) * pace.step
