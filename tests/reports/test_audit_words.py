"""What the page of an audit says to a reader: words for facts, and commands that can be pasted."""

import html
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from trustml.audit.accepting import RULES
from trustml.audit.auditing import FINDINGS
from trustml.audit.change import change
from trustml.audit.doubt import DOUBT
from trustml.audit.findings import Finding, numbered
from trustml.audit.physical import PHYSICAL
from trustml.audit.preparing import AUDIT
from trustml.audit.sections import Section
from trustml.audit.stealing import STEALING
from trustml.benchmarks.exams import checked
from trustml.benchmarks.plan import Plan
from trustml.cli.main import cli
from trustml.contracts import Cost, Record, Score
from trustml.reports.audit_commands import bench_command, budget_words
from trustml.reports.audit_page import write_audit_page
from trustml.reports.fingerprint_words import fingerprint_words
from trustml.reports.severities import severities
from trustml.reports.tables import spec_of
from trustml.reports.theft_table import _plainly

MODEL = "onnx:path=/models/reader.onnx,output=none,gradients=true,answers=auto"
SEEN = {
    "answers": "probabilities", "classes": 10, "sums_to_one": True, "decimals": None,
    "float32_grid": True, "deterministic": True, "takes_synthetic": True, "takes_outside": False,
    "levels": False, "explains": False, "affine": None, "piecewise_affine": True, "kinks": 2,
    "classes_seen": [4], "queries": 41, "methods": ["relu_exact", "active"],
}  # fmt: skip
FOUND = numbered([
    Finding("copied", "stealing", "T", "high", "agreement (test)", Score(0.9, 0.8, 1.0, "lower"),
            "onnx-auto", ("extraction",), "Tell less.", measure="--stealer auto --terms x=1"),
    Finding("calibration", "doubt", "U", "low", "ece", Score(0.1, 0.0, 0.2, "lower"),
            "onnx-calibration", (), "Fit."),
])  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The words of the page of an audit that was never run."""
    base = json.loads(Plan((MODEL,), plugins=("mine.py",)).to_json())
    (tmp_path / AUDIT).write_text(json.dumps({"schema": 1, "depth": "quick", "base": base}))
    fate = {"grade": "high", "reason": "", "failed": False, "inputs": 50}
    facts = {
        "schema": 1, "fingerprint": SEEN, "classes": [f"digit {n}" for n in range(10)],
        "tests": 539, "sections": {"stealing": fate, "doubt": {**fate, "inputs": 539}},
        "findings": [finding.to_json() for finding in FOUND], "accepted": ["doubt"],
    }  # fmt: skip
    (tmp_path / FINDINGS).write_text(json.dumps(facts))
    text = write_audit_page(tmp_path).read_text(encoding="utf-8")
    bare = re.sub(r"<style>.*?</style>|<script>.*?</script>|<wbr>", "", text, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", bare))


def test_the_page_is_of_the_file_and_its_commands_are_whole(page: str, tmp_path: Path) -> None:
    """Pasted as they stand they are about this audit, this model and these data."""
    assert "reader.onnx on digits" in page
    assert f"trustml replay {tmp_path}#F-001" in page
    assert "AUDIT" not in page
    tried = (
        "trustml bench --model onnx:path=/models/reader.onnx --data digits --plugin mine.py "
        "--stealer auto --terms x=1"
    )
    assert tried in page
    assert "trustml audit onnx:path=/models/reader.onnx --data digits --plugin mine.py" in page
    assert "stealing/copied/onnx-auto" in page
    assert "F-002 · low · accepted" in page
    assert "Accepted: F-002." in page


def test_the_page_says_of_how_many_inputs_a_number_is(page: str) -> None:
    assert "section stealing, on the first 50 of 539 test inputs" in page
    assert "section doubt, on all 539 test inputs" in page


def test_facts_of_a_model_are_words(page: str) -> None:
    """No value as Python or JSON writes it, and no name that stands for two things."""
    words = dict(fingerprint_words(SEEN, [f"digit {n}" for n in range(10)]))
    assert words["answers with"] == "probabilities of 10 classes"
    assert words["classes that came up"] == "digit 4 (1 of 10)"
    assert words["linear"] == "cannot be told"
    assert not re.search(r"null|None|true|false|\[|_to_|sums_", " ".join(words.values()))
    assert "classes" not in words
    assert "null" not in page
    assert "[4]" not in page


def test_the_rules_of_every_finding_are_on_the_page(page: str) -> None:
    told = " ".join(str(cell) for cell in severities().columns[0].cells)
    assert all(rule in told for rules in RULES.values() for rule in rules)
    assert "AUROC" in page
    assert "ECE" in page


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (MODEL, "reader.onnx"),
        ("python:factory=/code/make.py:build,weights=w.pt", "make.py:build"),
        ('python:factory="make.py:build"+abstain:rate=0.1', "make.py:build+abstain"),
        ('open_inference:url="http://u:p@host:80/v2/models/digits",key=x', "digits at host:80"),
        ("mlflow:url=http://host:5000/invocations", "host:5000"),
        ("mlp:hidden=[8]", "mlp"),
        ("folder:path=/data/x", "folder"),
    ],
)
def test_a_deployed_model_is_called_by_its_place(text: str, name: str) -> None:
    """A secret in an address stays out of titles."""
    assert spec_of(text)[0] == name


def test_a_budget_is_said_in_the_range_of_a_pixel() -> None:
    """16 of 255 levels are 6 % of the range; who chose it is said, too."""
    record = Record(
        "c", "attack", "pgd", {}, MODEL, "w", "digits:test=0.3", "h", 0,
        {"norm": "linf", "epsilon": 16.0, "low": 0.0, "high": 255.0}, {}, Cost(), {}, "done",
    )  # fmt: skip
    assert (
        change(record) == "each pixel or number changed by up to 0.06275 of its range (linf ≤ 16)"
    )
    together = replace(record, threat={**record.threat, "norm": "l2"})
    assert "by up to 16 in all, in L2" in change(together)
    usual = budget_words(Plan((MODEL,)), [record, record])
    assert usual.count("of its range") == 1
    assert "the usual budget of digits" in usual
    assert "given by --epsilon" in budget_words(Plan((MODEL,), epsilons=(16.0,)), [record])
    assert budget_words(Plan((MODEL,)), []) == ""


def test_a_server_is_not_to_be_asked_because_a_page_says_so() -> None:
    assert bench_command(Plan(("mlflow:url=http://host/invocations",)), "--stealer auto") == ""
    words = shlex.split(bench_command(Plan(("cnn",), data_dir="my data"), "--stealer auto"))
    bench = cli.commands["bench"].make_context("bench", words[2:], resilient_parsing=True)
    assert bench.params["models"] == ("cnn",)
    assert words[-4:] == ["--data-dir", "my data", "--stealer", "auto"]


@pytest.mark.parametrize(
    ("section", "plugin", "scores"),
    [
        (PHYSICAL, "gain_drift", ("success without",)),
        (PHYSICAL, "envelope_sticker", ("success without",)),
        (STEALING, "auto", ("agreement (test)",)),
        (DOUBT, "mcp", ("worst auroc", "rotated: auroc")),
    ],
)
def test_what_is_to_be_measured_can_be_pasted(
    section: Section, plugin: str, scores: tuple[str, ...]
) -> None:
    """Every word is an option of the command, every name a plugin; advice has no half a command."""
    record = Record(
        "c", "attack", plugin, {}, "cnn", "w", "digits", "h", 0, {},
        {name: Score(0.5, 0.4, 0.6, "lower") for name in scores}, Cost(), {}, "done",
    )  # fmt: skip
    (found,) = section.judged([record])
    assert "trustml bench" not in found.remedy
    words = shlex.split(bench_command(Plan(("cnn",)), found.measure))
    assert words[:2] == ["trustml", "bench"]
    told = cli.commands["bench"].make_context("bench", words[2:]).params
    lists = ("models", "routes", "defenses", "stealers", "countermeasures", "detectors")
    checked(Plan(**{name: told[name] for name in lists}))


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("certified: method relu_exact, signs found False, right False", "says? that it did not"),
        ("certified: right True, units 8", "its copy is the model"),
        ("certified: check gap 1e-7, check gap that rounding explains 2e-6", "by 1e-7 at most"),
        ("certified: agreement with the answers 0.98", "nothing but the agreement"),
        ("no transfer: x", "no transfer: x"),
    ],
)
def test_a_thiefs_certificate_is_a_sentence(note: str, said: str) -> None:
    told = _plainly(note)
    assert re.search(said, told)
    assert not re.search("certified|True|False", told)
