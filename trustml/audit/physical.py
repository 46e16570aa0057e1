"""Whether it is fooled through what stands before it: the scanner, and what sticks on an input."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trustml.audit.findings import Finding, done, graded, worst
from trustml.audit.sections import Section, Subject
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.route_cases import MISLED
from trustml.contracts import Access, Record
from trustml.errors import NotApplicable


def _plan(base: Plan, subject: Subject) -> Plan:
    if subject.access < Access.GRADIENTS:
        raise NotApplicable("an attacker prepares such changes by gradients, which it hides")
    if not subject.pictures:
        raise NotApplicable("its inputs are no pictures: there is no scanner and no sticker")
    more = subject.by_depth((), ("envelope",), ("envelope",))
    return replace(base, routes=("scanner", *more), limit=subject.by_depth(100, 300, 1000))


# What a route is; others are called by their names alone.
_WORDS = {
    "gain_drift": "the camera or scanner turns darker or brighter",
    "lens_sticker": "a small sticker on the lens or the glass",
    "scanner_pattern": "a faint pattern that the camera or scanner adds to every picture",
    "stuck_pixels": "a few pixels of the camera or scanner that are stuck",
    "envelope_noise": "a faint change of each input by itself",
    "envelope_sticker": "a sticker on what is photographed",
    "strokes": "a stroke or two of a pen",
}
# Routes that ask for answers alone; the others are prepared along gradients.
_ASKING = ("gain_drift", "strokes")
_OF_INPUTS = ("envelope_noise", "envelope_sticker", "strokes")
_ON_THE_WAY = (
    "Guard what stands between the world and the model: show the camera or scanner a known picture "
    "again and again, and raise an alarm where it comes out otherwise (the safeguard "
    "golden_card); watch whether inputs as a whole shift (drift_monitor); have a person "
    "look at what the model is unsure of (abstain)."
)
_ON_INPUTS = (
    "Have a person look at inputs that the model is unsure of (the safeguard abstain), and train "
    "it again with such changes among its training inputs."
)


def _named(record: Record) -> str:
    """Return what a route is called, and what it is, in brackets."""
    told = f" ({_WORDS[record.plugin]})" if record.plugin in _WORDS else ""
    return f"{record.plugin.replace('_', ' ')}{told}"


def _blind(record: Record) -> str:
    """Return why what a route found says little; "" unless it follows misleading gradients."""
    if record.plugin in _ASKING:
        return ""
    return next((note for note in record.notes if note.startswith(MISLED)), "")


def _sign(note: str) -> str:
    return note.removeprefix(f"{MISLED}: ")


def _judged(records: Sequence[Record]) -> Iterator[Finding]:
    for record in done(records, "success without"):
        score = record.scores["success without"]
        name, severity = _named(record), graded(1 - score.high)
        told = f"{name} makes it misread {score.value:.1%} of what it read rightly"
        blind = _blind(record)
        # What was found counts all the same.
        if blind and severity not in ("critical", "high"):
            told = (
                f"{name} makes it misread {score.value:.1%} of what it read rightly, or more: what "
                f"it could do is not known, for an attacker prepares it along the gradients, and "
                f"these mislead ({_sign(blind)})"
            )
            severity = worst([severity, "low"])
        yield Finding(
            "route", "physical", told, severity, "success without", score, record.case,
            ("physical evasion",),
            _ON_INPUTS if record.plugin in _OF_INPUTS else _ON_THE_WAY,
            measure=f"--route {record.plugin} --defense "
            f"{'abstain' if record.plugin in _OF_INPUTS else 'golden_card'}",
        )  # fmt: skip


def _passes(plan: Plan, subject: Subject) -> tuple[float, float]:
    # Each route prepares itself by about 100 steps over the samples it sees.
    return 600.0 * subject.inputs(plan), 400.0 * subject.inputs(plan)


PHYSICAL = Section("physical", "Fooled through scanner and sticker", _plan, _judged, _passes)
