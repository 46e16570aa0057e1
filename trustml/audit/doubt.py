"""Whether its probabilities mean what they say, and whether it knows what it does not know."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trustml.audit.findings import Finding, Severity, done
from trustml.audit.sections import Section, Subject
from trustml.benchmarks.plan import Plan
from trustml.contracts import Access, Record, Score
from trustml.errors import NotApplicable
from trustml.recipes import read_recipe

# Calibration errors, and areas under the curve, below which a finding is that bad.
_ERRORS: tuple[tuple[float, Severity], ...] = ((0.05, "passed"), (0.1, "low"), (0.2, "medium"))
_AREAS: tuple[tuple[float, Severity], ...] = ((0.6, "high"), (0.8, "medium"), (0.95, "low"))
# Below it a detector does not guess: it is led astray.
_GUESSED = 0.45
# What the sets show (data/_made.py); others are called by their own names.
_SHOWN = {
    "rotated": "the test inputs, turned by 90°",
    "inverted": "the test inputs, dark and bright exchanged",
    "shuffled": "the test inputs, rows and columns in another order",
    "noise": "noise that looks like nothing",
}


def _plan(base: Plan, subject: Subject) -> Plan:
    if subject.access < Access.PROBABILITIES:
        raise NotApplicable("it answers labels only: there is nothing to doubt them by")
    inside = ("energy", "knn") if subject.access >= Access.GRADIENTS else ()
    more = subject.by_depth((), ("mahalanobis",), ("mahalanobis", "vim", "odin"))
    extra = more if subject.access >= Access.GRADIENTS else ()
    limit = subject.by_depth(500, 2000, 0)
    return replace(base, detectors=("mcp", "entropy", *inside, *extra), limit=limit)


def _judged(records: Sequence[Record]) -> Iterator[Finding]:
    for record in done(records, "ece"):
        yield _calibration(record)
    detectors = done(records, "worst auroc")
    if detectors:
        yield _outsiders(max(detectors, key=lambda r: r.scores["worst auroc"].value))
    errors = done(records, "errors: auroc")
    if errors:
        yield _errors(max(errors, key=lambda r: r.scores["errors: auroc"].value))


def _calibration(record: Record) -> Finding:
    error, scaled = record.scores["ece"], record.scores["scaled: ece"]
    severity: Severity = next((s for below, s in _ERRORS if error.low < below), "high")
    return Finding(
        "calibration", "doubt",
        f"Its probabilities are off by {error.value:.1%} on average (ECE), by {scaled.value:.1%} "
        f"after temperature scaling",
        severity, "ece", error, record.case, ("calibration",),
        "Fit one number on held-out data by which its logits are divided, so that of answers that "
        "are 80 % sure 80 % are right (temperature scaling), or answer with all classes that are "
        "likely enough (prediction sets).",
    )  # fmt: skip


def _outsiders(record: Record) -> Finding:
    worst = record.scores["worst auroc"]
    sets = {
        name.removesuffix(": auroc"): score for name, score in record.scores.items()
        if name.endswith(": auroc") and name != "errors: auroc"
    }  # fmt: skip
    hardest = min(sets, key=lambda name: sets[name].value)
    inputs = f"inputs unlike the training data ({_SHOWN.get(hardest, hardest)})"
    numbers = f"with AUROC {worst.value:.1%}, where chance has 50.0%"
    if _by_area(worst) != "high":
        told = f"The best of the detectors, {record.plugin}, tells {inputs} from ordinary ones"
    elif worst.value < _GUESSED:
        told = (
            f"No detector tells {inputs} from ordinary ones: even the best, {record.plugin}, takes "
            f"them for more ordinary than the test inputs themselves"
        )
    else:
        told = (
            f"No detector tells {inputs} from ordinary ones: the best, {record.plugin}, does "
            f"little better than a guess"
        )
    return Finding(
        "outsiders", "doubt", f"{told}, {numbers}", _by_area(worst), "worst auroc", worst,
        record.case, ("unknown inputs",), _watch(record.plugin, worst),
        measure="--detector all" if _by_area(worst) == "high" else "",
    )  # fmt: skip


def _watch(detector: str, worst: Score) -> str:
    if _by_area(worst) != "high":
        return (
            f"Measure how strange each input is before the answer is used, and have a person look "
            f"at the strangest (the safeguard +abstain:detector={detector})."
        )
    return (
        "A gate of these detectors would let such inputs through: check what reaches the model "
        "before it is asked (source, size, orientation), train it with such inputs, or look for a "
        "measure of strangeness that does tell them."
    )


def _errors(record: Record) -> Finding:
    area = record.scores["errors: auroc"]
    return Finding(
        "errors foretold", "doubt",
        f"The best of the detectors, {record.plugin}, tells its errors from its right answers with "
        f"AUROC {area.value:.1%}, where chance has 50.0%",
        # Few errors make a wide interval, which is no reason to accuse the model.
        next((s for below, s in _AREAS if area.value < below), "passed"),
        "errors: auroc", area, record.case, ("unknown inputs",),
        "Have a person look at the answers of which it is least sure (the safeguard +abstain), and "
        "do not rely on its own doubt alone.",
    )  # fmt: skip


def _by_area(score: Score) -> Severity:
    return next((severity for below, severity in _AREAS if score.low < below), "passed")


def _passes(plan: Plan, subject: Subject) -> tuple[float, float]:
    # Each sample is read once, and once from each other set, which are as large at most.
    read = subject.inputs(plan) * (1 + subject.outside)
    # A server is asked about no more of the others than of the test samples.
    most = subject.inputs(plan) if subject.remote else max(subject.training, subject.validation)
    read += min(most, subject.training) + min(most, subject.validation)
    # A model of trustml's own is read for its logits, and again for its features.
    return float(read if read_recipe(plan.models[0]).is_deployed else 2 * read), 0.0


DOUBT = Section("doubt", "Knows what it does not know", _plan, _judged, _passes)
