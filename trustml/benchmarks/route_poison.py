"""A poison in the training data: models that learnt from it, without and with a safeguard."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from trustml.benchmarks.discipline import MODELS, Bench
from trustml.benchmarks.plan import Case
from trustml.benchmarks.route_guard import NONE, guarded, guarded_by, named, read, settled
from trustml.benchmarks.setting import Setting, blaming, placed, recorded_module
from trustml.contracts import Dataset, Split
from trustml.errors import BrokenClaim, MethodFailed
from trustml.guarding import sanitised
from trustml.randomness import keyed
from trustml.recipes import Choice, Recipe

Trigger = Callable[[Tensor], Tensor] | None
WEIGHTS = ("bare weights", "weights", "honest weights")


def poisoned(case: Case, bench: Bench, poison: Choice, safeguard: str) -> dict[str, Tensor]:
    """Return what a case keeps of a poison: what models make of the mail that learnt from it.

    Raises:
        NotApplicable: the poison does not suit the data.
        MethodFailed: it raised, or returned something that is no split.
        TrustError: a model cannot be trained.
    """
    dataset, trigger = bad_data(case, bench, poison)
    split, room = bench.setting.split, room_of(case.text)
    bare = bare_model(case, bench, dataset, room)
    honest = guarded(bench, case.seed, case.model, safeguard)
    recipe = guarded_by(safeguard, case.model)
    found: dict[str, Tensor] = {}
    if safeguard == NONE:
        under = bare
    else:
        if recipe.at("data"):
            with blaming(f"safeguards of {recipe.name}"):
                train, validation = sanitised(recipe, dataset, bench.device)
            found["touched"] = _touched(bench.dataset.train, dataset.train, train.to("cpu"))
            dataset = replace(dataset, train=train.to("cpu"), validation=validation.to("cpu"))
        under = settled(bench, case.seed, _cleaned(recipe), dataset, room_of(case.text + safeguard))
    mail = None
    if trigger is not None:
        with blaming(f"poison {poison.plugin.name}"):
            mail = trigger(split.x.clone()).to("cpu", torch.float32).clamp(split.low, split.high)
        if mail.shape != split.x.shape:
            raise MethodFailed(f"poison {poison.plugin.name}: its trigger changes the shape")
        found["trigger: inputs"] = mail
    found |= judged(case, bench, (bare, under, honest), mail)
    found |= {
        name: _bytes(setting.weights_hash)
        for name, setting in zip(WEIGHTS, (bare, under, honest), strict=True)
    }
    return found


def judged(
    case: Case, bench: Bench, models: tuple[Setting, Setting, Setting], mail: Tensor | None
) -> dict[str, Tensor]:
    """Return what the poisoned model, the one under the safeguard, and an honest one answer."""
    bare, under, honest = models
    split, device = bench.setting.split, bench.device
    found = named(read(honest.module, split, split.x, device), "clean")
    found["bare: right"] = bench.setting.right.to(torch.uint8)
    found["poisoned: right"] = 1 - read(bare.module, split, split.x, device)["misread"]
    found["right"] = 1 - read(under.module, split, split.x, device)["misread"]
    if mail is not None:
        wanted = case.options["target"] if case.options and "target" in case.options else None
        goal = torch.full_like(split.y, wanted) if wanted is not None else split.y
        everything = torch.ones_like(split.y, dtype=torch.bool)
        aimed = everything if wanted is None else split.y != goal
        found["trigger: aimed"] = aimed.to(torch.uint8)
        of_goal = replace(split, y=goal)
        for name, setting in (("bare trigger", bare), ("trigger", under)):
            answers = read(setting.module, of_goal, mail, device)
            hit = answers["misread"] if wanted is None else 1 - answers["misread"]
            found |= named({"hit": hit, "accepted": answers["accepted"]}, name)
    return found


def recorded_models(
    case: Case, bench: Bench, safeguard: str, found: dict[str, Tensor]
) -> tuple[Setting, Setting, Setting]:
    """Return the three models that a case was judged by, from the run's own folder.

    Raises:
        BrokenClaim: one is missing, damaged, or another.
    """
    recipe, plain = guarded_by(safeguard, case.model), bench.setting.recipe
    own = room_of(case.text) if safeguard == NONE else room_of(case.text + safeguard)
    rooms = ((plain, room_of(case.text)), (_cleaned(recipe), own), (recipe, ""))
    settings = []
    for name, (of, room) in zip(WEIGHTS, rooms, strict=True):
        if name not in found:
            raise BrokenClaim(f"{case.name}: it does not say which model it is about")
        digest = bytes(found[name].tolist()).hex()
        where = (digest, bench.folder / MODELS / room if room else bench.folder / MODELS)
        module = recorded_module(of, bench.setting.split.domain, case.seed, where)
        module = placed(module, bench.device)
        settings.append(replace(bench.setting, recipe=of, module=module, weights_hash=digest))
    return settings[0], settings[1], settings[2]


def bad_data(case: Case, bench: Bench, poison: Choice) -> tuple[Dataset, Trigger]:
    """Return the data with their training split poisoned, and the trigger, if there is one.

    Raises:
        MethodFailed: the poison raised, or returned something that is no split.
    """
    train = bench.dataset.train
    with blaming(f"poison {poison.plugin.name}"):
        bad, trigger = poison.plugin.function(
            train, random=keyed(case.seed, train.ids), **poison.options
        )
    if not isinstance(bad, Split) or bad.domain != train.domain or not len(bad):
        raise MethodFailed(f"poison {poison.plugin.name} did not return a split of these data")
    return replace(bench.dataset, train=bad), trigger


def bare_model(case: Case, bench: Bench, dataset: Dataset, room: str) -> Setting:
    """Return the poisoned model without a safeguard, trained once for all safeguards."""
    known: dict[str, Setting] = bench.memory.setdefault("poisoned", {})
    if case.text not in known:
        known[case.text] = settled(bench, case.seed, bench.setting.recipe, dataset, room)
    return known[case.text]


def _touched(before: Split, after: Split, cleaned: Split) -> Tensor:
    """Return (4,) counts: poisons taken out or relabelled, poisons, then the same of others."""
    rows = {int(name): row for row, name in enumerate(before.ids)}
    left = {int(name): int(label) for name, label in zip(cleaned.ids, cleaned.y, strict=True)}
    counts = [0, 0, 0, 0]
    for row, name in enumerate(after.ids.tolist()):
        old = rows.get(name)
        bad = old is None or bool(
            (after.y[row] != before.y[old]) | (after.x[row] != before.x[old]).any()
        )
        touched = left.get(name) != int(after.y[row])
        counts[0 if bad else 2] += touched
        counts[1 if bad else 3] += 1
    return torch.tensor(counts)


def _cleaned(recipe: Recipe) -> Recipe:
    """Return the recipe without the safeguards of the data, which have done their work."""
    others = tuple(c for c in recipe.safeguards if c.plugin.facts["stage"] != "data")
    return replace(recipe, safeguards=others)


def room_of(text: str) -> str:
    """Return the room in the run's folder for models of those that learnt from a poison."""
    return "poisoned-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def _bytes(digest: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)
