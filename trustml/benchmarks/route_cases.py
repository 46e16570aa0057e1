"""Cases of the exam of routes and safeguards: mail tampered with, kept, and the scoring row."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trustml.access import frozen
from trustml.benchmarks.claims import close
from trustml.benchmarks.discipline import MODELS, SAMPLES, Bench
from trustml.benchmarks.indicators import model_indicators
from trustml.benchmarks.plan import Case
from trustml.benchmarks.probes import subject
from trustml.benchmarks.route_guard import (
    NONE,
    guarded,
    guarded_by,
    monitor_of,
    named,
    read,
    view_of,
    with_bpda,
)
from trustml.benchmarks.route_mail import Tampering, posted, prepared, success_on_own_mail
from trustml.benchmarks.route_poison import judged, poisoned, recorded_models
from trustml.benchmarks.route_scores import scores_of
from trustml.benchmarks.route_watch import watched
from trustml.benchmarks.setting import Setting, placed, recorded_module
from trustml.contracts import Cost, Record, Split
from trustml.errors import BrokenClaim, NotApplicable
from trustml.files import write_whole
from trustml.guarding import accepted, doubt
from trustml.recipes import Choice, choose, split_recipe

TIMED = 60  # pieces of mail that are read one by one, against the clock
HIDDEN = 0.1  # so much more success past a gradient than along it is no accident
MISLED = "its own gradients mislead"
MISLEADING = ("no gradient", "zero gradient", "gradient mismatch", "jumps")


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record of one route or poison against one safeguard, or none.

    Raises:
        NotApplicable: the route, poison or safeguard does not suit the data or the model.
        MethodFailed: one of them raised, or broke its contract.
    """
    began, safeguard = time.perf_counter(), str(blank.options["safeguard"])
    monitor = monitor_of(safeguard)
    notes: list[str] = []
    if case.kind == "poison":
        if monitor is not None:
            raise NotApplicable(
                f"{monitor.plugin.name} watches the scanner and the mail; a poison comes with the "
                f"training data: try a safeguard of the data, as spectral_signatures"
            )
        found = poisoned(case, bench, choose("poison", case.text), safeguard)
    else:
        route = choose("route", case.text)
        tampering = _static(case, bench, route)
        found = {"bare: right": bench.setting.right.to(torch.uint8)}
        if monitor is not None:
            kept, notes = watched(case, bench, route, monitor, tampering)
        else:
            kept, notes = _mailed(case, bench, route, safeguard)
        found |= kept
    if monitor is None:
        found["latency"] = _latency(guarded(bench, case.seed, case.model, safeguard), bench)
        notes.append("latency is this machine's, one piece of mail at a time: not reproducible")
    scores = scores_of(found, bench.plan.false_alarms)
    if "honest samples touched" in scores:
        share = scores["honest samples touched"].value
        notes.append(f"{share:.1%} of the honest training samples are taken out or relabelled")
    content = save({name: tensor.contiguous() for name, tensor in sorted(found.items())})
    write_whole(bench.home(case.name) / SAMPLES, content)
    return replace(
        blank,
        scores=scores,
        cost=Cost(time.perf_counter() - began),
        status="done",
        notes=(*_limits(safeguard), *notes),
        samples=hashlib.sha256(content).hexdigest(),
    )


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Check that tampered mail is in the box, read as was said, and that the scores follow.

    Raises:
        BrokenClaim: they do not.
    """
    found, safeguard = read_file(bench.home(case.name) / SAMPLES), str(record.options["safeguard"])
    _check_box(case, found, bench)
    if record.kind == "poison":
        models = recorded_models(case, bench, safeguard, found)
        again = judged(case, bench, models, found.get("trigger: inputs"))
    else:
        again = _judged_again(case, found, bench, safeguard)
    for name, tensor in again.items():
        if name.endswith("doubt"):
            continue  # of a threshold's last digits other devices may think otherwise
        if name not in found or not torch.equal(found[name], tensor):
            raise BrokenClaim(f"{record.case}: {name!r} is not what the model says of the inputs")
    if not close(scores_of(found, bench.plan.false_alarms), record.scores):
        raise BrokenClaim(f"{record.case}: the scores do not follow from what was kept")


def read_file(path: Path) -> dict[str, Tensor]:
    """Return what a case has kept.

    Raises:
        BrokenClaim: the file is missing or damaged.
    """
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error


def _limits(safeguard: str) -> Iterator[str]:
    """Yield what gets past each safeguard of a chain, and what it does not stop."""
    chain = [] if safeguard == NONE else split_recipe(safeguard)
    for text in chain:
        plugin = choose("safeguard", text).plugin
        name = f"{plugin.name} " if len(chain) > 1 else ""
        yield f"{name}is beaten by {plugin.facts['beaten_by']}"
        yield f"{name}does not stop {plugin.facts['does_not_stop']}"


def _static(case: Case, bench: Bench, route: Choice) -> Tampering:
    """Return the tampering prepared on the bare model, once for all safeguards."""
    known: dict[str, Tampering] = bench.memory.setdefault("static", {})
    if case.text not in known:
        known[case.text] = prepared(route, bench.setting.module, bench, case.seed)
    return known[case.text]


def _mail(case: Case, bench: Bench, route: Choice) -> Tensor:
    """Return the mail of the attacker who knows of no safeguard, once for all of them."""
    known: dict[str, Tensor] = bench.memory.setdefault("static mail", {})
    if case.text not in known:
        tampering = _static(case, bench, route)
        known[case.text] = posted(route, tampering, bench.setting.split, bench, case.seed)
    return known[case.text]


def _mailed(
    case: Case, bench: Bench, route: Choice, safeguard: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Return what the model under a safeguard makes of mail from both attackers."""
    split, device = bench.setting.split, bench.device
    mail = _mail(case, bench, route)
    under = guarded(bench, case.seed, case.model, safeguard)
    found = named(read(under.module, split, split.x, device), "clean")
    found |= named({"inputs": mail, **read(under.module, split, mail, device)}, "static")
    found["bare: static: misread"] = read(bench.setting.module, split, mail, device)["misread"]
    found["weights"] = torch.tensor(list(bytes.fromhex(under.weights_hash)), dtype=torch.uint8)
    held = bench.dataset.validation
    of_held = read(under.module, held, held.x, device)
    if "doubt" in of_held:
        found["validation: doubt"] = of_held["doubt"]
    if safeguard == NONE:
        notes = _hits(route, found, split, under, device)
        return found, notes + _misleading(case, bench, under)
    tampering, notes = _adaptive(case, bench, route, under)
    if tampering is not None:
        x = posted(route, tampering, split, bench, case.seed)
        found |= named({"inputs": x, **read(under.module, split, x, device)}, "adaptive")
    notes += _hits(route, found, split, under, device)
    return found, notes + _misleading(case, bench, under)


def _hits(
    route: Choice, found: dict[str, Tensor], split: Split, under: Setting, device: torch.device
) -> list[str]:
    """Return how often the class that a route aims at is hit, if it aims at one."""
    target = route.options.get("target")
    among = (found["clean: misread"] == 0) & (split.y.cpu() != target)
    if target is None or not bool(among.any()):
        return []
    goal, shares = replace(split, y=torch.full_like(split.y, target)), []
    for way in ("static", "adaptive"):
        if f"{way}: inputs" in found:
            said = read(under.module, goal, found[f"{way}: inputs"], device)
            hit = (said["misread"] == 0) & said["accepted"].bool() & among
            shares.append(f"{way} {int(hit.sum()) / int(among.sum()):.1%}")
    return [f"read as class {target}, of other classes' mail that is read rightly: "
            f"{', '.join(shares)}"]  # fmt: skip


def _adaptive(
    case: Case, bench: Bench, route: Choice, under: Setting
) -> tuple[Tampering | None, list[str]]:
    """Return the better of two ways on the attacker's own mail, None where it is the static one."""
    view, how = view_of(under, bench, case.seed)
    knowing = prepared(route, view, bench, case.seed)

    def won(tampering: Tampering) -> float:
        return success_on_own_mail(route, tampering, under.module, bench, case.seed)

    apart = {"static": won(_static(case, bench, route)), "knowing": won(knowing)}
    notes = [f"adaptive: {', '.join(how)}"]
    blind = with_bpda(under, case.seed, bench, False)
    if blind is not under.module or any("bpda" in c.options for c in under.recipe.safeguards):
        along = won(prepared(route, blind, bench, case.seed))
        best = max(apart.values())
        if best > along + HIDDEN:
            notes.append(
                f"only hides gradients: an attacker who follows its own gradient gets "
                f"{along:.0%} of {route.plugin.name} through, one who knows better {best:.0%} (on "
                f"training inputs of the attacker's own)"
            )
    if apart["static"] <= apart["knowing"]:
        return knowing, notes
    notes[0] = "adaptive: what was prepared on the bare model does better, so it is used"
    gated = doubt(under.module, bench.dataset.validation.x[:1].to(bench.device)) is not None
    if apart["static"] > apart["knowing"] + HIDDEN and not gated:
        notes.append(
            f"hides gradients: {route.plugin.name} prepared on the bare model gets "
            f"{apart['static']:.0%} through, prepared on the guarded one {apart['knowing']:.0%} "
            f"(on training inputs of the attacker's own)"
        )
    return None, notes


def _misleading(case: Case, bench: Bench, under: Setting) -> list[str]:
    """Return what the indicators say of the guarded model's gradients, once for all routes."""
    if not bench.plan.indicators:
        return []
    known: dict[str, list[str]] = bench.memory.setdefault("misleading", {})
    if under.recipe.text not in known:
        blind = with_bpda(under, case.seed, bench, False)
        seen = subject(blind, under.split, under.right, case.seed, bench.device)
        # The first says it; where there is no gradient, the others only say it again.
        known[under.recipe.text] = [
            f"{MISLED}: {sign.sentence}"
            for sign in model_indicators(seen)
            if sign.fired and sign.name in MISLEADING
        ][:1]
    return known[under.recipe.text]


def _latency(under: Setting, bench: Bench) -> Tensor:
    """Return milliseconds (n,) from a piece of mail to its answer, one at a time."""
    module: Any = under.module
    mail, times = under.split.x[:TIMED].to(bench.device), []
    with frozen(module), torch.no_grad():
        for number, one in enumerate([mail[:1], mail[:1], *mail.split(1)]):
            began = time.perf_counter()
            module(one).argmax(1).cpu()
            accepted(module, one).cpu()
            if number > 1:  # the first two warm up
                times.append(1000 * (time.perf_counter() - began))
    return torch.tensor(times, dtype=torch.float64)


def _judged_again(case: Case, found: dict[str, Tensor], bench: Bench, safeguard: str) -> Any:
    """Return what the models, reloaded, say of the mail that was kept."""
    split, device = bench.setting.split, bench.device
    again = {"bare: right": bench.setting.right.to(torch.uint8)}
    if monitor_of(safeguard) is not None:
        for way in ("static", "adaptive"):
            x = found[f"{way}: inputs"]
            misread = read(bench.setting.module, split, x, device)["misread"]
            again |= named({"misread": misread}, way)
        return again
    module = bench.setting.module
    if safeguard != NONE:
        recipe = guarded_by(safeguard, case.model)
        where = (bytes(found["weights"].tolist()).hex(), bench.folder / MODELS)
        module = placed(recorded_module(recipe, split.domain, case.seed, where), device)
    again |= named(read(module, split, split.x, device), "clean")
    for way in ("static", "adaptive"):
        if f"{way}: inputs" in found:
            again |= named(read(module, split, found[f"{way}: inputs"], device), way)
    bare = read(bench.setting.module, split, found["static: inputs"], device)
    return again | {"bare: static: misread": bare["misread"]}


def _check_box(case: Case, found: dict[str, Tensor], bench: Bench) -> None:
    """Check that what was kept as mail could be mail."""
    split = bench.setting.split
    for name, x in found.items():
        if not name.endswith(": inputs"):
            continue
        inside = x.shape == split.x.shape and bool(
            (x.isfinite() & (x >= split.low) & (x <= split.high)).all()
        )
        if not inside:
            raise BrokenClaim(
                f"{case.name}: {name!r} are no mail: another shape, or out of the box"
            )
