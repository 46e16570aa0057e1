"""What an audit found: a sentence, how bad it is, the number behind it, and what to do."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from trustml.contracts import Json, Record, Score
from trustml.errors import BadInput

Severity = Literal["critical", "high", "medium", "low", "passed"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
# What is left of a property, between 0 and 1, is read in these bands (those of garak's reports):
# below the number the finding is that bad.
_BANDS: tuple[tuple[float, Severity], ...] = (
    (0.05, "critical"), (0.4, "high"), (0.8, "medium"), (0.99, "low"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined and judged.

    Args:
        name: of the rule that judged it; unique in its section together with `case`.
        section: of the audit.
        title: what was found, in a sentence with its numbers.
        severity: how bad that is.
        metric: the name of the number, a score of the record of `case`.
        score: the number, with its 95 % interval.
        case: the case of the section's run that it comes from.
        kinds: what it is an instance of, by names of `taxonomy.KINDS`.
        remedy: what to do about it, in words for the owner of the system.
        id: F-001 and so on; set when the audit is complete.
        measure: what `trustml bench` takes beside the model and the data to measure the remedy;
            empty where it cannot be measured on this model.
    """

    name: str
    section: str
    title: str
    severity: Severity
    metric: str
    score: Score
    case: str
    kinds: tuple[str, ...]
    remedy: str
    id: str = ""
    measure: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return the finding as plain values."""
        return {**asdict(self), "kinds": list(self.kinds)}


def from_json(facts: Mapping[str, Json]) -> Finding:
    """Return the finding that `Finding.to_json` wrote.

    Raises:
        BadInput: it is none.
    """
    try:
        rest = {"score": Score(**facts["score"]), "kinds": tuple(facts["kinds"])}
        return Finding(**{**facts, **rest})
    except (KeyError, TypeError) as error:
        raise BadInput(f"not a finding ({error})") from error


def graded(share: float) -> Severity:
    """Return how bad it is that so much of a property, in [0, 1], is left."""
    return next((severity for below, severity in _BANDS if share < below), "passed")


def left(score: Score, of: float = 1.0) -> float:
    """Return the worse end of the interval as a share of what there was, in [0, 1]."""
    value = score.low if score.better == "higher" else 1 - score.high
    return min(1.0, max(0.0, value / of)) if of > 0 else 0.0


def worst(severities: Iterable[Severity]) -> Severity:
    """Return the worst of them: a section is as good as its worst finding, never their mean."""
    return min(severities, key=SEVERITIES.index, default="passed")


def at_least(severity: Severity, limit: Severity) -> bool:
    """Return whether a severity is the limit or worse."""
    return SEVERITIES.index(severity) <= SEVERITIES.index(limit)


def numbered(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings with their ids, the worst first, else in the order of the audit."""
    found = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return [replace(one, id=f"F-{number:03}") for number, one in enumerate(found, 1)]


def done(records: Iterable[Record], *names: str) -> list[Record]:
    """Return the finished records that have all these scores."""
    return [r for r in records if r.status == "done" and all(name in r.scores for name in names)]
