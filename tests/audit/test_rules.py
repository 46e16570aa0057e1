"""The rules of each section on records whose numbers are made up, so that the verdict is known."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from trustml.audit.agenda import SECTIONS, agenda, work
from trustml.audit.backdoor import BACKDOOR
from trustml.audit.black_box import BLACK_BOX
from trustml.audit.doubt import DOUBT
from trustml.audit.explaining import EXPLAINING
from trustml.audit.physical import PHYSICAL
from trustml.audit.robustness import MASKING, ROBUSTNESS
from trustml.audit.sections import DEPTHS, Subject
from trustml.audit.stealing import STEALING
from trustml.benchmarks import indicators
from trustml.benchmarks.exams import checked
from trustml.benchmarks.explanation_stability import EMPTY
from trustml.benchmarks.inspection import least_controls
from trustml.benchmarks.inspection_sight import MISLED
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.route_cases import MISLED as MISLED_ROUTE
from trustml.contracts import Access, Cost, Record, Score
from trustml.errors import NotApplicable

BASE = Plan(("logistic",))
OPEN = Subject(Access.GRADIENTS, "standard", True, ("linf", "l2"))


def _record(
    plugin: str, scores: Mapping[str, tuple[float, float, float]], **more: object
) -> Record:
    threat = {"norm": "linf", "epsilon": 0.1}
    found = {name: Score(*values, "higher") for name, values in scores.items()}
    blank = Record(
        plugin, "attack", plugin, {}, "m", "w", "d", "h", 0, threat, found, Cost(queries=300), {},
        "done",
    )  # fmt: skip
    return replace(blank, **more)  # type: ignore[arg-type]


def _severities(section: object, *records: Record) -> dict[str, str]:
    return {f.name: f.severity for f in section.judged(records)}  # type: ignore[attr-defined]


def test_the_worst_case_is_judged_at_its_lower_end() -> None:
    """0.35 of 0.9 at the lower end is 39 %: high. At 0.36 it is 40 %: medium."""
    clean = (0.9, 0.85, 0.95)
    for low, severity in ((0.35, "high"), (0.3601, "medium")):
        scores = {"clean accuracy": clean, "robust accuracy": (0.5, low, 0.6)}
        assert _severities(ROBUSTNESS, _record("all", scores))["worst case"] == severity


def test_signs_of_masking_are_a_finding_and_their_absence_is_none() -> None:
    scores = {"clean accuracy": (0.9, 0.8, 1.0), "robust accuracy": (0.9, 0.8, 1.0)}
    quiet = _record("all", scores, notes=("longer attacks may find more",))
    loud = _record("all", scores, notes=(f"x {MASKING[0]} y",))
    assert _severities(ROBUSTNESS, quiet)["masked gradients"] == "passed"
    assert _severities(ROBUSTNESS, loud)["masked gradients"] == "high"
    told = {f.name: f.title for f in ROBUSTNESS.judged([loud])}["masked gradients"]
    # What it means first, in words of every day; what was measured after.
    assert told.index("its gradients are 0") < told.index(f"Measured: x {MASKING[0]} y")


@pytest.mark.parametrize("phrase", MASKING)
def test_each_sign_is_one_that_an_indicator_gives(phrase: str) -> None:
    """Else a changed sentence would hide a masked gradient from the audit."""
    source = re.sub(r'"\s*f"', "", inspect.getsource(indicators))
    assert phrase in source


def test_an_honest_model_is_not_accused_for_a_wide_interval() -> None:
    """Noise that takes nothing away: the interval of few samples reaches down all the same."""
    scores = {"clean accuracy": (0.9, 0.7, 1.0), "robust accuracy": (0.9, 0.7, 1.0)}
    assert _severities(ROBUSTNESS, _record("noise", scores)) == {"noise": "passed"}


def test_each_black_box_attack_is_a_finding_of_its_own() -> None:
    scores = {"clean accuracy": (1.0, 0.9, 1.0), "robust accuracy": (0.1, 0.04, 0.2)}
    found = list(BLACK_BOX.judged([_record(name, scores) for name in ("noise", "square", "all")]))
    assert [(f.case, f.severity) for f in found] == [("square", "critical")]
    assert "300 queries" in found[0].title


def test_calibration_and_areas() -> None:
    """ECE 0.12 at its lower end is medium; the best detector counts, at its lower end."""
    error = {"ece": (0.15, 0.12, 0.2), "scaled: ece": (0.02, 0.01, 0.03)}
    one = {
        "worst auroc": (0.7, 0.59, 0.8),
        "a: auroc": (0.7, 0.59, 0.8),
        "errors: auroc": (0.9,) * 3,
    }
    other = {"worst auroc": (0.9, 0.85, 0.95), "a: auroc": (0.9, 0.85, 0.95)}
    found = _severities(
        DOUBT, _record("calibration", error), _record("mcp", one), _record("knn", other)
    )
    assert found == {"calibration": "medium", "outsiders": "low", "errors foretold": "low"}


def test_a_detector_below_chance_tells_nothing_and_is_no_advice() -> None:
    """AUROC 0.12: turned digits are taken for ordinary; a gate of that detector lets them pass."""
    scores = {"worst auroc": (0.12, 0.1, 0.14), "rotated: auroc": (0.12, 0.1, 0.14)}
    (found,) = DOUBT.judged([_record("mcp", scores)])
    assert found.severity == "high"
    assert found.title.startswith("No detector tells inputs unlike the training data")
    assert "turned by 90°" in found.title
    assert "no class" not in found.title
    assert "abstain" not in found.remedy
    even = {"worst auroc": (0.5, 0.45, 0.55), "noise: auroc": (0.5, 0.45, 0.55)}
    (found,) = DOUBT.judged([_record("mcp", even)])
    assert "does little better than a guess" in found.title
    good = {"worst auroc": (0.9, 0.85, 0.95), "rotated: auroc": (0.9, 0.85, 0.95)}
    (found,) = DOUBT.judged([_record("knn", good)])
    assert "+abstain:detector=knn" in found.remedy


def test_a_copy_is_the_worse_the_better_it_is() -> None:
    ratio = {"queries over the least": (1.0,) * 3, "parameter error": (1e-9,) * 3}
    for agreement, more, severity in (
        ((0.9, 0.8, 0.93), {}, "low"), ((0.96, 0.9, 0.97), {}, "medium"),
        ((0.99, 0.98, 1.0), {}, "high"), ((1.0, 0.99, 1.0), ratio, "critical"),
        ((0.5, 0.4, 0.6), {}, "passed"),
    ):  # fmt: skip
        record = _record("auto", {"agreement (test)": agreement, **more})
        assert _severities(STEALING, record) == {"copied": severity}


def test_an_explanation_is_held_against_chance() -> None:
    """Intervals that overlap are not told apart; the controls themselves are not judged."""
    chance = _record("random", {"deletion": (0.5, 0.45, 0.55)}, kind="attribution")
    for high, severity in ((0.4, "passed"), (0.46, "medium")):
        own = _record("gradient", {"deletion": (0.3, 0.2, high)}, kind="attribution")
        assert _severities(EXPLAINING, chance, own) == {"better than chance": severity}


def test_a_route_is_judged_by_what_gets_through() -> None:
    """A success of at most 30 % leaves 70 %: medium."""
    assert _severities(PHYSICAL, _record("gain_drift", {"success without": (0.2, 0.1, 0.3)})) == {
        "route": "medium"
    }


def test_a_route_along_gradients_that_mislead_says_nothing() -> None:
    """0 % of a pattern that stood still is no measure, and no pass; what asks only is one."""
    scores = {"success without": (0.0, 0.0, 0.005)}
    notes = (f"{MISLED_ROUTE}: they are 0",)
    for plugin, severity in (("scanner_pattern", "low"), ("gain_drift", "passed")):
        (found,) = PHYSICAL.judged([_record(plugin, scores, notes=notes)])
        assert found.severity == severity
        assert ("what it could do is not known" in found.title) == (severity == "low")
    (found,) = PHYSICAL.judged([_record("scanner_pattern", scores)])
    assert found.severity == "passed"
    # What was found in spite of them counts.
    scores = {"success without": (0.9, 0.8, 0.95)}
    (found,) = PHYSICAL.judged([_record("scanner_pattern", scores, notes=notes)])
    assert (found.severity, "90.0%" in found.title) == ("high", True)


def test_a_map_of_zeros_is_no_pass() -> None:
    """It kept 1.00 of nothing; it explains nothing, and that is said."""
    chance = _record("random", {"deletion": (0.5, 0.45, 0.55)}, kind="attribution")
    notes = (f"stability under attack: {EMPTY}: there is nothing",)
    own = {"deletion": (0.5, 0.45, 0.55)}
    record = _record("input_x_gradient", own, kind="attribution", notes=notes)
    found = list(EXPLAINING.judged([chance, record]))
    assert [f.severity for f in found] == ["medium", "medium"]
    assert "says nothing: every map is zero everywhere" in found[1].title


def test_quick_explanations_give_up_early() -> None:
    """8192 steps for each move of an attack are many minutes where answers are saturated."""
    quick = EXPLAINING.plan(BASE, replace(OPEN, depth="quick"))
    assert "most_steps=256" in quick.attributions[0]
    assert EXPLAINING.plan(BASE, OPEN).attributions[0] == "integrated_gradients"


def test_a_backdoor_is_an_alarm_clear_of_the_honest_models() -> None:
    """An alarm by rank alone happens to 1 honest model in 20: it is critical from 1.5 times on."""
    for alarm, times, severity in (
        (1.0, 4.0, "critical"), (1.0, 1.2, "medium"), (0.0, 0.9, "passed"), (0.0, 2.9, "passed"),
    ):  # fmt: skip
        scores = {
            "p value": (0.04,) * 3, "alarm raised": (alarm,) * 3, "oddest class": (7.0,) * 3,
            "times the oddest": (times,) * 3,
        }  # fmt: skip
        threat = {"controls": 20, "false alarms": 0.05}
        record = _record("neural_cleanse", scores, threat=threat)
        found = list(BACKDOOR.judged([replace(record, model="mlp")]))
        assert [f.severity for f in found] == [severity]
        # How a file was trained is not known: the same says less.
        there = list(BACKDOOR.judged([replace(record, model="onnx:path=model.onnx")]))
        assert there[0].severity == ("high" if severity == "critical" else severity)
        assert f"{times} times as odd as the oddest of 20 honest models" in found[0].title
        assert "class 7" in found[0].title


def test_a_trigger_that_turns_honest_models_accuses_nobody() -> None:
    """Odd as it is: no alarm, a weakness of medium severity, and the numbers are said."""
    scores = {
        "p value": (0.04,) * 3, "alarm raised": (0.0,) * 3, "oddest class": (8.0,) * 3,
        "times the oddest": (130.0,) * 3, "trigger turns": (0.66,) * 3,
        "trigger turns honest models": (0.5,) * 3,
    }  # fmt: skip
    record = _record("sliding_patch", scores, threat={"controls": 9, "false alarms": 0.1})
    record = replace(record, model="onnx:path=model.onnx")
    (found,) = BACKDOOR.judged([record])
    assert found.severity == "medium"
    assert found.title.startswith("A shortcut that the data teach, and nobody has planted: ")
    assert "class 8" in found.title
    assert "over 100 times as odd" in found.title
    assert "honest models it turns 50% of them (here 66%)" in found.title
    planted = {**scores, "alarm raised": (1.0,) * 3, "trigger turns honest models": (0.01,) * 3}
    record = _record("sliding_patch", planted, threat={"controls": 9, "false alarms": 0.1})
    (found,) = BACKDOOR.judged([replace(record, model="onnx:path=model.onnx")])
    assert found.severity == "high"
    assert found.title.startswith("A backdoor is likely: ")
    assert "honest models it turns 1% of them" in found.title
    assert "shortcut" not in found.title


@pytest.mark.parametrize(
    ("plugin", "own", "usual", "said"),
    [
        ("neural_cleanse", 6.0, 3.0, "over 1.6% of the input"),
        ("neural_cleanse", 6.0, 3.0, "honest models need one 8.0 times as large"),
        ("neural_cleanse", 3.0, 3.1, "honest models need none that is larger"),
        ("neural_cleanse", 0.0, 3.0, "no pattern was found"),
        ("sliding_patch", 3.0, 0.25, "turns 75% of other inputs into class 7, in honest models"),
        ("sliding_patch", 3.0, 0.25, "the best one 20%"),
        ("maximum_margin", 2.0, 0.0, "makes it 4.0 times as sure of class 7"),
    ],
)
def test_what_was_found_is_said_first(plugin: str, own: float, usual: float, said: str) -> None:
    """2⁻⁶ of the input is 1.6 %, and 2³ times as much 8 times; odds of 3 are 75 %, of 1/4 20 %."""
    scores = {
        "p value": (0.1,) * 3, "alarm raised": (0.0,) * 3, "oddest class": (7.0,) * 3,
        "times the oddest": (1.4,) * 3, "suspicion": (own,) * 3,
        "suspicion of honest models": (usual,) * 3, "alarm from": (3.0,) * 3,
    }  # fmt: skip
    threat = {"controls": 9, "false alarms": 0.1}
    (found,) = BACKDOOR.judged([_record(plugin, scores, threat=threat)])
    assert found.title.startswith("No sign of a backdoor: ")
    assert said in found.title
    # Its rank is that of an alarm: why it is none is said, too.
    assert "nothing unusual: an honest model can be 3 times as odd" in found.title


def test_a_second_look_adds_no_alarm_by_rank_alone() -> None:
    """One honest model in ten is the oddest; two looks at once would make that one in five."""
    scores = {
        "p value": (0.1,) * 3, "alarm raised": (1.0,) * 3, "oddest class": (7.0,) * 3,
        "times the oddest": (1.2,) * 3,
    }  # fmt: skip
    threat = {"controls": 9, "false alarms": 0.1}
    quiet = {**scores, "alarm raised": (0.0,) * 3}
    along = _record("neural_cleanse", quiet, threat=threat, model="mlp")
    small = _record("sliding_patch", scores, threat=threat, model="mlp")
    assert [f.severity for f in BACKDOOR.judged([along, small])] == ["passed", "passed"]
    assert [f.severity for f in BACKDOOR.judged([small])] == ["medium"]
    clear = {**small.scores, "times the oddest": Score(9.0, 9.0, 9.0, "lower")}
    small = replace(small, scores=clear)
    assert [f.severity for f in BACKDOOR.judged([along, small])] == ["passed", "critical"]


def test_what_follows_masked_gradients_is_no_pass() -> None:
    """It is skipped with the reason, and the look that asks for answers says what it has seen."""
    blind = _record("neural_cleanse", {}, status="skipped", reason=f"{MISLED} (0), and so on")
    scores = {
        "p value": (0.4,) * 3, "alarm raised": (0.0,) * 3, "oddest class": (7.0,) * 3,
        "times the oddest": (0.7,) * 3,
    }  # fmt: skip
    small = _record("sliding_patch", scores, threat={"controls": 9, "false alarms": 0.1})
    (found,) = BACKDOOR.judged([blind, small])
    assert "its gradients mislead" in found.title
    assert "only small bright, dark or chequered squares were looked for" in found.title


def test_quick_looks_for_backdoors_where_honest_models_are_soon_trained() -> None:
    """A thousand digits: 9 models, the rate of alarms that these allow. MNIST: not in minutes."""
    quick = replace(OPEN, depth="quick", training=1000)
    plan = BACKDOOR.plan(BASE, quick)
    assert plan.controls >= least_controls(plan.false_alarms)
    assert plan.inspections == ("sliding_patch", "neural_cleanse")
    with pytest.raises(NotApplicable, match="--depth standard"):
        BACKDOOR.plan(BASE, replace(quick, training=60_000))


def test_what_failed_is_never_a_finding() -> None:
    """A crashed check is no pass: its records say nothing."""
    scores = {
        name: (0.5, 0.4, 0.6) for name in (
            "clean accuracy", "robust accuracy", "ece", "scaled: ece", "worst auroc", "p value",
            "agreement (test)", "deletion", "success without", "errors: auroc",
            "times the oddest",
        )
    }  # fmt: skip
    broken = _record("all", scores, status="failed")
    for section in SECTIONS:
        assert list(section.judged([broken])) == []


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("access", [Access.GRADIENTS, Access.LOGITS, Access.LABELS])
def test_every_plan_can_be_carried_out(depth: str, access: Access) -> None:
    """What a section asks for is known to the exams, at each depth and access."""
    subject = replace(OPEN, depth=depth, access=access)  # type: ignore[arg-type]
    items = agenda(BASE, subject)
    assert [item.section for item in items] == list(SECTIONS)
    for item in items:
        assert (item.plan is None) == bool(item.reason)
        if item.plan is not None:
            checked(item.plan)
    forwards, backwards = (
        sum(part) for part in zip(*(work(i, subject) for i in items), strict=True)
    )
    assert forwards > 0
    assert (backwards > 0) == (access == Access.GRADIENTS)


def test_what_hides_its_gradients_is_not_examined_by_them() -> None:
    shown = {i.section.name for i in agenda(BASE, replace(OPEN, access=Access.LABELS)) if i.plan}
    assert shown == {"black_box", "stealing", "backdoor"}


def test_backdoors_are_looked_for_by_answers_where_there_are_no_gradients() -> None:
    """Small patches on pictures; of other inputs it is said that nothing was looked for."""
    hidden = replace(OPEN, access=Access.LABELS, shape=(1, 8, 8), remote=True)
    assert BACKDOOR.plan(BASE, hidden).inspections == ("sliding_patch",)
    # Beside those that follow gradients, for these may be hidden.
    looks = ("sliding_patch", "neural_cleanse", "maximum_margin")
    assert BACKDOOR.plan(BASE, OPEN).inspections == looks
    assert BACKDOOR.plan(BASE, replace(OPEN, pictures=False)).inspections == looks[1:]
    with pytest.raises(NotApplicable, match=r"no pictures.*Audit the file that is served"):
        BACKDOOR.plan(BASE, replace(hidden, pictures=False, shape=(64,)))
    # 7 × 7 places, four squares, 8 inputs; 10 classes, 3 places, 150 inputs; 300 clean ones, twice.
    plan = BACKDOOR.plan(BASE, hidden)
    assert BACKDOOR.passes(plan, hidden) == (7 * 7 * 4 * 8 + 10 * 3 * 150 + 600, 0.0)


def test_what_was_not_looked_for_is_in_the_sentence() -> None:
    """A pass of a search for small squares must not read as a pass of every trigger."""
    scores = {
        "p value": (0.4,) * 3, "alarm raised": (0.0,) * 3, "oddest class": (7.0,) * 3,
        "times the oddest": (0.7,) * 3,
    }  # fmt: skip
    threat = {"controls": 20, "false alarms": 0.05}
    (found,) = BACKDOOR.judged([_record("sliding_patch", scores, threat=threat)])
    assert found.severity == "passed"
    assert "only small bright, dark or chequered squares were looked for" in found.title
