"""An audit: a model settled and fingerprinted, section after section run, and what was found."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from trustml.access import frozen
from trustml.audit.agenda import Item, agenda, work
from trustml.audit.findings import Finding, from_json, numbered, worst
from trustml.audit.sections import DEPTHS, Depth, Subject
from trustml.benchmarks import harness
from trustml.benchmarks.exams import checked
from trustml.benchmarks.inspection import controls_of
from trustml.benchmarks.place import device_of, exact_arithmetic
from trustml.benchmarks.plan import PLAN, Plan
from trustml.benchmarks.plan import from_json as plan_from_json
from trustml.benchmarks.setting import Setting, blaming, load_data, settle, told
from trustml.contracts import Access, Classifier, Dataset, Json, Record, Terms
from trustml.deployment import access_of
from trustml.errors import BadInput, DiskFull, TrustError, UnknownName
from trustml.files import locked, write_whole
from trustml.fingerprint import Fingerprint, fingerprint
from trustml.recipes import read_recipe
from trustml.victim import Service

AUDIT, FINDINGS, SECTIONS, MODELS = "audit.json", "findings.json", "sections", "models"
_TIMED = 64


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """An audit that may begin.

    Args:
        base: the plan that all sections share.
        items: the sections.
        prints: the fingerprint of the model.
        queries: how many inputs the model is asked about at most.
        seconds: how long that takes at most on this machine, by the time of one pass.
    """

    folder: Path
    base: Plan
    subject: Subject
    items: list[Item]
    prints: Fingerprint
    queries: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a section: its records, or why there are none; `failed` tells a failure."""

    item: Item
    records: Sequence[Record]
    findings: Sequence[Finding]
    reason: str = ""
    failed: bool = False


def prepared(base: Plan, depth: str, folder: Path) -> Prepared:
    """Settle the model, take its fingerprint, choose the sections; nothing is attacked yet.

    Raises:
        UsageError: the model, the data or the depth cannot be had.
        TrustError: the model does not answer as a classifier.
    """
    if depth not in DEPTHS:
        raise UnknownName.of("depth", depth, DEPTHS)
    if (folder / AUDIT).exists():
        raise BadInput(f"{folder} holds an audit; choose another --out, or --resume {folder}")
    # A plan must ask for something to be checked; what it asks for is not kept.
    base = replace(checked(replace(base, attacks=("noise",))), attacks=())
    base = replace(base, controls_of=controls_of(base.controls_of))
    found = _prepared(base, depth, folder)
    facts = {"schema": 1, "depth": depth, "base": json.loads(base.to_json())}
    write_whole(folder / AUDIT, json.dumps(facts, indent=1).encode())
    return found


def resumed(folder: Path) -> Prepared:
    """Return the audit of a folder, to be gone on with.

    Raises:
        BadInput: there is none, or it is damaged.
        TrustError: the model or the data cannot be had any more.
    """
    base, depth = read_audit(folder)
    return _prepared(base, depth, folder)


def read_audit(folder: Path) -> tuple[Plan, Depth]:
    """Return what an audit was begun with.

    Raises:
        BadInput: the folder holds no audit, or it is damaged.
    """
    if not (folder / AUDIT).is_file():
        raise BadInput(f"{folder} holds no audit: there is no {AUDIT} in it")
    try:
        facts = json.loads((folder / AUDIT).read_text(encoding="utf-8"))
        base, depth = plan_from_json(json.dumps(facts["base"])), facts["depth"]
        if depth not in DEPTHS or facts["schema"] != 1:
            raise ValueError(f"depth {depth!r}, schema {facts['schema']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder / AUDIT}: not an audit ({error})") from error
    return base, depth


def carried_out(found: Prepared) -> Iterator[Outcome]:
    """Run each section, yield what became of it, and keep all findings at the end.

    A section that fails is an outcome of its own, never a pass; the others go on.

    Raises:
        DiskFull: nothing more could be written.
        BadInput: another process is at work in the folder.
    """
    outcomes = []
    with locked(found.folder):
        for item in found.items:
            outcome = _outcome(item, found.folder)
            outcomes.append(outcome)
            yield outcome
        kept(found.folder, found.prints, outcomes)


def kept(folder: Path, prints: Fingerprint, outcomes: Sequence[Outcome]) -> list[Finding]:
    """Write what was found and what was not examined, and return the findings with their ids."""
    findings = numbered(finding for outcome in outcomes for finding in outcome.findings)
    facts: dict[str, Json] = {
        "schema": 1,
        "fingerprint": prints.facts(),
        "sections": {
            outcome.item.section.name: {
                "grade": grade(outcome),
                "reason": outcome.reason,
                "failed": outcome.failed,
            }
            for outcome in outcomes
        },
        "findings": [finding.to_json() for finding in findings],
    }
    write_whole(folder / FINDINGS, json.dumps(facts, indent=1).encode())
    return findings


def findings_of(folder: Path) -> tuple[list[Finding], dict[str, Any]]:
    """Return the findings of a complete audit, and all that is kept beside them.

    Raises:
        BadInput: the audit is not complete, or its file is damaged.
    """
    read_audit(folder)
    path = folder / FINDINGS
    if not path.is_file():
        raise BadInput(f"the audit in {folder} is not complete: trustml audit --resume {folder}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return [from_json(one) for one in facts["findings"]], facts
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: damaged ({error})") from error


def grade(outcome: Outcome) -> str:
    """Return the worst severity of a section, or that it says nothing."""
    if outcome.failed or outcome.reason:
        return "failed" if outcome.failed else "not examined"
    return worst(f.severity for f in outcome.findings) if outcome.findings else "not examined"


def run_of(folder: Path, section: str) -> Path:
    """Return the folder of a section's run."""
    return folder / SECTIONS / section


def _prepared(base: Plan, depth: Depth, folder: Path) -> Prepared:
    exact_arithmetic()
    dataset, device = load_data(base.data, base.data_dir), device_of(base.device)
    setting = settle(base, read_recipe(base.models[0]), dataset, device, folder / MODELS)
    access = access_of(setting.module)
    with blaming("the model"):
        prints = _fingerprint(setting, dataset, access)
    subject = Subject(
        access, depth, setting.split.x.dim() == 4, tuple(dataset.budgets), bool(prints.affine),
        len(dataset.train),
    )  # fmt: skip
    items = agenda(base, subject)
    forwards, backwards = work(items, subject, len(dataset.test))
    there, back = _pass_seconds(setting, access)
    seconds = forwards * there + backwards * back
    return Prepared(folder, base, subject, items, prints, prints.queries + forwards, seconds)


def _outcome(item: Item, folder: Path) -> Outcome:
    if item.plan is None:
        return Outcome(item, [], [], item.reason)
    run = run_of(folder, item.section.name)
    try:
        begun = (run / PLAN).is_file()
        records = list(harness.resume(run) if begun else harness.start(item.plan, run))
    except DiskFull:
        raise
    except TrustError as error:
        return Outcome(item, [], [], " ".join(str(error).split()), failed=True)
    except Exception as error:  # a deployed model is a stranger's: the other sections go on
        return Outcome(item, [], [], f"it crashed: {told(error)}", failed=True)
    broken = [r for r in records if r.status == "failed"]
    if broken and len(broken) == len(records):
        return Outcome(item, records, [], broken[0].reason, failed=True)
    return Outcome(item, records, list(item.section.judged(records)))


def _fingerprint(setting: Setting, dataset: Dataset, access: Access) -> Fingerprint:
    terms = Terms(answers=min(access, Access.LOGITS))
    domain, module = setting.split.domain, cast(Classifier, setting.module)
    victim = Service(module, domain, terms)
    pool = dataset.validation.x[:100]
    return fingerprint(victim, torch.Generator().manual_seed(0), pool)


def _pass_seconds(setting: Setting, access: Access) -> tuple[float, float]:
    """Return the seconds of one input's forward, and of its backward pass."""
    module = setting.module
    x = setting.split.x[:_TIMED].to(next(iter(module.parameters()), setting.split.x).device)
    with frozen(module):
        began = time.perf_counter()
        with torch.no_grad():
            module(x)
        there = (time.perf_counter() - began) / len(x)
        if access < Access.GRADIENTS:
            return there, 0.0
        began = time.perf_counter()
        with torch.enable_grad():
            moved = x.clone().requires_grad_()
            torch.autograd.grad(module(moved).sum(), moved)
        return there, max(there, (time.perf_counter() - began) / len(x) - there)


def facts_of(outcome: Outcome) -> dict[str, Json]:
    """Return an outcome as plain values, for machines."""
    return {
        "section": outcome.item.section.name,
        "grade": grade(outcome),
        "reason": outcome.reason,
        "findings": [asdict(finding) for finding in outcome.findings],
    }
