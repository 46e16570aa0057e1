"""Whether it is fooled by who knows all of it: worst case, what is proved, signs of masking."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trustml.audit.change import change
from trustml.audit.findings import Finding, done, graded, left
from trustml.audit.sections import Section, Subject
from trustml.benchmarks.plan import Bounds, Plan
from trustml.contracts import Access, Norm, Record
from trustml.errors import NotApplicable

# What an indicator of masked gradients says, whatever its number (benchmarks/indicators.py), and
# what that means.
_MEANING = {
    "attacks that follow them stand still": "its gradients are 0, so that attacks which follow "
    "them do not move, though it may be easily fooled",
    "they look like probabilities, not": "it answers probabilities where raw scores (logits) are "
    "expected, which flattens its gradients",
    "that the gradient does not see": "its answer changes where its gradients say that it does "
    "not, as behind a rounded input",
    "the margin changes by jumps": "its answer changes by leaps and not smoothly, so that its "
    "gradients say little about what lies around an input",
    "the loss is noise on the scale": "the least change of an input throws its answer about, so "
    "that its gradients point anywhere",
    "its gradients lead nowhere": "even an attack that may change everything fails, and that no "
    "model withstands: its gradients lead attacks astray",
    "the gradients may mislead": "an attack that only asks does better than those that know "
    "everything",
    "no gradient with respect to the input": "its answers have no gradient, so that attacks which "
    "need one could not try",
}
MASKING = tuple(_MEANING)
_ADVICE = (
    "Train the model again with attacked inputs among its training inputs (adversarial training; "
    "for models that trustml trains, the safeguards fast_adversarial_training and trades), and "
    "audit what comes of it. Where it cannot be trained again, do not let it decide alone where "
    "somebody gains by fooling it: have a person look at what it is unsure of (the safeguard "
    "abstain), and keep its weights and its inputs out of strangers' hands."
)


def _plan(base: Plan, subject: Subject) -> Plan:
    if subject.access < Access.GRADIENTS:
        raise NotApplicable(
            f"its gradients are not shown, just its {subject.access.name.lower()}: what an "
            f"attacker with the whole model could do is not known"
        )
    known: list[Norm] = [norm for norm in ("linf", "l2", "l1") if norm in subject.budgets]
    if not known:
        raise NotApplicable("the data have no usual budget: say one with --epsilon")
    norms = tuple(known[: subject.by_depth(1, 2, 3)])
    limit = subject.by_depth(100, 500, 1000)
    certify: Bounds = subject.by_depth("auto", "tight", "tight")
    return replace(base, attacks=("strongest",), norms=norms, limit=limit, certify=certify)


def _judged(records: Sequence[Record]) -> Iterator[Finding]:
    for record in done(records, "robust accuracy", "clean accuracy"):
        if record.plugin == "all":
            yield _worst_case(record)
            yield _masking(record)
        elif record.plugin == "noise":
            yield _noise(record)


def _worst_case(record: Record) -> Finding:
    robust, clean = record.scores["robust accuracy"], record.scores["clean accuracy"]
    share = left(robust, clean.value)
    return Finding(
        "worst case", "robustness",
        f"Of {clean.value:.1%} right answers {robust.value:.1%} remain under the strongest attack "
        f"with full knowledge, {change(record)}",
        graded(share), "robust accuracy", robust, record.case, ("white-box evasion",), _ADVICE,
    )  # fmt: skip


def _noise(record: Record) -> Finding:
    robust, clean = record.scores["robust accuracy"], record.scores["clean accuracy"]
    return Finding(
        "noise", "robustness",
        f"Random noise of the same size leaves {robust.value:.1%} of {clean.value:.1%} right "
        f"answers, {change(record)}",
        # An interval around the clean accuracy itself must not accuse an honest model.
        graded(robust.value / clean.value if clean.value else 0.0), "robust accuracy", robust,
        record.case, (),
        "Train it again with noise added to the training inputs: it errs without any attacker.",
    )  # fmt: skip


def _masking(record: Record) -> Finding:
    signs = [note for note in record.notes if any(phrase in note for phrase in MASKING)]
    means = [said for phrase, said in _MEANING.items() if any(phrase in note for note in signs)]
    return Finding(
        "masked gradients", "robustness",
        f"Robustness numbers of this model cannot be relied on: {'; '.join(means)}. Measured: "
        f"{'; '.join(signs)}"
        if signs
        else f"No sign that the model hides its gradients ({_budget(record)})",
        "high" if signs else "passed", "robust accuracy", record.scores["robust accuracy"],
        record.case, ("masked gradients",),
        "Take out the step that hides how the answer depends on the input (rounding, a random "
        "draw, probabilities that are 0 or 1 almost always) and audit the model without it: it "
        "protects nobody, an attacker goes around it. Until then go by what is left under the "
        "attacks that only ask (section black_box).",
    )  # fmt: skip


def _budget(record: Record) -> str:
    return f"{record.threat['norm']} ≤ {record.threat['epsilon']:.4g}"


def _passes(plan: Plan, subject: Subject) -> tuple[float, float]:
    # A robust model, on which nothing ends early, takes the whole schedule.
    count = len(plan.norms) * subject.inputs(plan)
    return 900.0 * count, 150.0 * count


ROBUSTNESS = Section("robustness", "Fooled by who knows all of it", _plan, _judged, _passes)
