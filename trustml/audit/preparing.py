"""An audit that may begin: a model settled and fingerprinted, sections chosen, and what they take.

Nothing is attacked yet.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from trustml.access import frozen
from trustml.audit.accepting import read_accepted
from trustml.audit.agenda import Item, Pace, agenda, seconds, work
from trustml.audit.sections import DEPTHS, Depth, Subject
from trustml.benchmarks.exams import cases, checked
from trustml.benchmarks.inspection import controls_of
from trustml.benchmarks.place import arithmetic, device_of
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.plan import from_json as plan_from_json
from trustml.benchmarks.setting import Setting, blaming, load_data, settle
from trustml.contracts import Access, Classifier, Dataset, Terms
from trustml.deployment import access_of, allowance, is_remote, says_of
from trustml.errors import BadInput, TrustError, UnknownName
from trustml.files import write_whole
from trustml.fingerprint import Fingerprint, fingerprint
from trustml.ledger import Ledger, entered_in
from trustml.recipes import Recipe, of_a_copy, read_recipe
from trustml.store import build
from trustml.training import threads_for
from trustml.victim import Service

AUDIT, QUERIES, MODELS = "audit.json", "queries", "models"
# So many inputs are asked about to see that it answers, and how fast.
_TIMED = 64


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """An audit that may begin.

    Args:
        base: the plan that all sections share.
        items: the sections.
        prints: the fingerprint of the model.
        queries: how many more inputs the model is asked about at most.
        seconds: how long that takes on this machine, by the time of one pass.
        rate: requests a second that a server is sent at most; 0 sets no limit.
        ledger: what a server was asked, and may be.
        notes: what a reader should know of the model.
        classes: their names, as the data number them.
        accepted: names of known findings, which decide nothing.
    """

    folder: Path
    base: Plan
    subject: Subject
    items: list[Item]
    prints: Fingerprint
    queries: float
    seconds: float
    rate: float
    ledger: Ledger
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    accepted: tuple[str, ...] = ()


def prepared(
    base: Plan, depth: str, folder: Path, budget: int = 0, accepted: Sequence[str] = ()
) -> Prepared:
    """Settle the model, take its fingerprint, choose the sections; nothing is attacked yet.

    Args:
        base: the model and the data; its `epsilons` take the place of the data's usual budget.
        depth: quick, standard or thorough.
        folder: of the audit.
        budget: how many inputs a server is asked about at most; 0 sets no limit.
        accepted: names of known findings, as `read_accepted` takes them.

    Raises:
        UsageError: the model, the data or the depth cannot be had, no finding is called so, or the
            budget is spent already.
        TrustError: the model does not answer as a classifier.
    """
    if depth not in DEPTHS:
        raise UnknownName.of("depth", depth, DEPTHS)
    accepted = read_accepted(accepted)
    if (folder / AUDIT).exists():
        raise BadInput(f"{folder} holds an audit; choose another --out, or --resume {folder}")
    # A plan must ask for something to be checked; what it asks for is not kept.
    base = replace(checked(replace(base, attacks=("noise",))), attacks=())
    base = replace(base, controls_of=controls_of(base.controls_of))
    (folder / QUERIES).unlink(missing_ok=True)
    found = _prepared(base, depth, folder, budget, accepted)
    _write(found, depth)
    return found


def resumed(
    folder: Path, budget: int | None = None, accepted: Sequence[str] | None = None
) -> Prepared:
    """Return the audit of a folder, to be gone on with.

    Args:
        folder: of the audit.
        budget: in the place of its own.
        accepted: names of known findings in the place of its own.

    Raises:
        BadInput: there is none, or it is damaged.
        UsageError: its budget is spent, or no finding is called so.
        TrustError: the model or the data cannot be had any more.
    """
    base, depth, before, known = _read(folder)
    names = known if accepted is None else read_accepted(accepted)
    found = _prepared(base, depth, folder, before if budget is None else budget, names)
    _write(found, depth)
    return found


def read_audit(folder: Path) -> tuple[Plan, Depth]:
    """Return what an audit was begun with.

    Raises:
        BadInput: the folder holds no audit, or it is damaged.
    """
    base, depth, _, _ = _read(folder)
    return base, depth


def _read(folder: Path) -> tuple[Plan, Depth, int, tuple[str, ...]]:
    if not (folder / AUDIT).is_file():
        raise BadInput(f"{folder} holds no audit: there is no {AUDIT} in it")
    try:
        facts = json.loads((folder / AUDIT).read_text(encoding="utf-8"))
        base, depth = plan_from_json(json.dumps(facts["base"])), facts["depth"]
        if depth not in DEPTHS or facts["schema"] != 1:
            raise ValueError(f"depth {depth!r}, schema {facts['schema']!r}")
        return base, depth, int(facts.get("budget", 0)), read_accepted(facts.get("accepted", []))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder / AUDIT}: not an audit ({error})") from error


def _write(found: Prepared, depth: Depth) -> None:
    base, budget = json.loads(found.base.to_json()), found.ledger.budget
    known = {"accepted": list(found.accepted)} if found.accepted else {}
    facts = {"schema": 1, "depth": depth, "budget": budget, **known, "base": base}
    text = json.dumps(facts, indent=1).encode()
    path = found.folder / AUDIT
    before = path.stat() if path.is_file() else None
    if before is None or path.read_bytes() != text:
        write_whole(path, text)
    if before is not None:  # when it was begun is the time of this file
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _prepared(
    base: Plan, depth: Depth, folder: Path, budget: int, accepted: Sequence[str]
) -> Prepared:
    if budget < 0:
        raise BadInput(f"--budget {budget} must be 0 (no bound) or more")
    began = time.perf_counter()
    dataset, device = load_data(base.data, base.data_dir), device_of(base.device)
    # A section reads the data, too, and hashes them.
    opening = 1.5 * (time.perf_counter() - began)
    recipe, ledger = read_recipe(base.models[0]), Ledger(folder / QUERIES, budget)
    with entered_in(ledger), arithmetic(base.deterministic):
        some = replace(base, limit=_TIMED)
        setting = settle(some, recipe, dataset, device, folder / MODELS)
        access = access_of(setting.module)
        if budget and not is_remote(setting.module):
            raise BadInput(
                f"--budget counts what a server is asked, and {recipe.text} is none: leave it out"
            )
        with blaming("the model"):
            prints = _fingerprint(setting, dataset, access)
        pace = replace(_pace(setting, access), opening=opening, step=_step(setting, recipe))
    subject = Subject(
        access, depth, setting.split.x.dim() == 4, 
        # One number is no budget for two norms: where it is given, the entries' own is meant.
        ("linf",) if base.epsilons else tuple(dataset.budgets), bool(prints.affine),
        len(dataset.train), len(dataset.validation), len(dataset.test), len(dataset.outside),
        setting.split.domain.shape, setting.split.classes, is_remote(setting.module),
        says_of(setting.module),
    )  # fmt: skip
    items = agenda(base, subject)
    names = _checked(accepted, items, dataset)
    queries = sum(work(item, subject)[0] for item in items)
    taken = sum(seconds(item, subject, pace) for item in items)
    return Prepared(
        folder, base, subject, items, prints, queries, taken, pace.rate, ledger, setting.notes,
        dataset.class_names, names,
    )  # fmt: skip


def _checked(accepted: Sequence[str], items: Sequence[Item], dataset: Dataset) -> tuple[str, ...]:
    """Return the names, after those of single cases were held against the cases to come."""
    if all(name.count("/") < 2 for name in accepted):
        return tuple(accepted)
    known = {
        item.section.name: [case.name for case in cases(checked(item.plan), dataset)]
        for item in items
        if item.plan is not None
    }
    return read_accepted(accepted, known)


def _fingerprint(setting: Setting, dataset: Dataset, access: Access) -> Fingerprint:
    terms = Terms(answers=min(access, says_of(setting.module), Access.LOGITS))
    domain, module = setting.split.domain, cast(Classifier, setting.module)
    victim = Service(module, domain, terms)
    pool = dataset.validation.x[:100]
    return fingerprint(victim, torch.Generator().manual_seed(0), pool)


def _pace(setting: Setting, access: Access) -> Pace:
    """Return how long one input takes, by its answers to a few; over a wire that is in it."""
    module = setting.module
    x = setting.split.x[:_TIMED].to(next(iter(module.parameters()), setting.split.x).device)
    rate, batch = allowance(module)
    with frozen(module):
        if not is_remote(module):  # the first call also makes ready
            with torch.no_grad():
                module(x)
        began = time.perf_counter()
        with torch.no_grad():
            module(x)
        together = (time.perf_counter() - began) / len(x)
        if access < Access.GRADIENTS:
            ways = []
            for one in x[:3].split(1):
                began = time.perf_counter()
                with torch.no_grad():
                    module(one)
                ways.append(time.perf_counter() - began)
            return Pace(together, sorted(ways)[len(ways) // 2], 0.0, rate, batch)
        began = time.perf_counter()
        with torch.enable_grad():
            moved = x.clone().requires_grad_()
            torch.autograd.grad(module(moved).sum(), moved)
        back = (time.perf_counter() - began) / len(x) - together
        return Pace(together, together, max(together, back))


def _step(setting: Setting, recipe: Recipe) -> float:
    """Return the seconds of a step of training what a thief learns a copy by; 0 if it has none."""
    try:
        copy = build(of_a_copy(recipe), setting.split.domain, 0).train()
    except TrustError:
        return 0.0
    rows = torch.arange(_TIMED) % len(setting.split)
    x, y = setting.split.x[rows], setting.split.y[rows]
    optimizer = torch.optim.AdamW(copy.parameters(), lr=1e-3)
    taken = []
    with threads_for(copy, x), torch.enable_grad():
        for _ in range(6):
            began = time.perf_counter()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(copy(x), y).backward()
            optimizer.step()
            taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]
