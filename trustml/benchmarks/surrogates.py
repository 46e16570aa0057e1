"""Models that an attacker has in place of the examined one, and what it makes of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from trustml.access import frozen
from trustml.benchmarks.blocks import fitting_blocks
from trustml.benchmarks.discipline import MODELS, Bench
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.setting import Setting, blaming, recorded_module, settle
from trustml.contracts import Access, Dataset, Norm, Record, Threat
from trustml.deployment import access_of, check_names
from trustml.errors import BadInput, BrokenClaim, MethodFailed, NotApplicable, TrustError
from trustml.recipes import Choice, Recipe, read_recipe
from trustml.store import build
from trustml.weights import load_weights

# What their seeds lie above the examined model's: an attacker does not know how that was drawn, and
# two surrogates of one recipe are two models.
APART = 1000
_ROWS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Lent:
    """What an attack sees in the examined model's place.

    Args:
        setting: the surrogate on the samples under examination, or the mean of several.
        weights: recipe and seed of each → SHA-256 of its weights.
        parts: each by itself.
        seeds: of each.
    """

    setting: Setting
    weights: dict[str, str]
    parts: tuple[Setting, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Unwon:
    """A threat under which nothing counts as won, so that a walk goes on to its highest loss.

    A point just across a surrogate's border is seldom across another model's.
    """

    threat: Threat

    @property
    def norm(self) -> Norm:
        """The ball's norm."""
        return self.threat.norm

    @property
    def epsilon(self) -> float | Tensor:
        """The ball's radius."""
        return self.threat.epsilon

    @property
    def low(self) -> float:
        """The box's lower side."""
        return self.threat.low

    @property
    def high(self) -> float:
        """The box's upper side."""
        return self.threat.high

    @property
    def targeted(self) -> bool:
        """Whether the labels are wanted, not true."""
        return self.threat.targeted

    def budget(self, x: Tensor, /) -> Tensor:
        """Return epsilon (B, 1, …)."""
        return self.threat.budget(x)

    def project(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return the nearest allowed points (B, *S)."""
        return self.threat.project(candidate, x)

    def contains(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return (B,) whether each candidate is allowed."""
        return self.threat.contains(candidate, x)

    def reached(self, logits: Tensor, y: Tensor, /) -> Tensor:
        """Return (B,) False: an attack on a surrogate cannot know."""
        return torch.zeros_like(self.threat.reached(logits, y))

    def at(self, rows: Tensor, /) -> "Unwon":
        """Return the threat of the given rows."""
        return Unwon(self.threat.at(rows))


class Mean(nn.Module):
    """The mean of several models' log probabilities: their logits fused, whatever their scales.

    Dong et al. 2018, arXiv:1710.06081, section 3.3. Of models that show labels, their votes.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        # Labels are one-hot: 0 and 1, whose mean counts votes as it is.
        self.of_labels = min(access_of(member) for member in members) < Access.PROBABILITIES

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean log probabilities (B, K)."""
        said = [member(x) for member in self.members]
        if not self.of_labels:
            said = [logits.log_softmax(1) for logits in said]
        return torch.stack(said).mean(0)

    def features(self, x: Tensor) -> Tensor:
        """Return the members' features side by side, (B, D)."""
        members: list[Any] = list(self.members)
        return torch.cat([member.features(x).flatten(1) for member in members], 1)


def goes_on(attack: Choice, norm: str) -> bool:
    """Return whether the attack walks up a loss, and so does better if it never counts as won.

    What looks for the nearest point, or asks for labels and scores, needs to know where it wins.
    """
    facts = attack.plugin.facts
    if norm not in get_args(Norm):
        return False
    return facts["needs"] >= Access.GRADIENTS and not facts["minimum_norm"]


def named(plan: Plan, seed: int) -> dict[str, tuple[Recipe, int]]:
    """Return the plan's surrogates of a model with that seed: name → recipe, own seed."""
    recipes = [read_recipe(text) for text in plan.surrogates]
    seeds = range(seed + APART, seed + APART + len(recipes))
    return {f"{r.text} seed={s}": (r, s) for r, s in zip(recipes, seeds, strict=True)}


def lent(bench: Bench, seed: int) -> Lent | None:
    """Return what attacks on the model of that seed see in its place; None if that is the model.

    Raises:
        TrustError: a surrogate cannot be built, trained or loaded, or has other classes.
    """
    wanted = named(bench.plan, seed)
    if not wanted:
        return None
    if "surrogates" not in bench.memory:
        parts = tuple(_settled(bench, recipe, own) for recipe, own in wanted.values())
        weights = dict(zip(wanted, [part.weights_hash for part in parts], strict=True))
        seeds = tuple(own for _, own in wanted.values())
        whole = together(parts, bench.device)
        bench.memory["surrogates"] = Lent(whole, weights, parts, seeds)
    found: Lent = bench.memory["surrogates"]
    return found


def together(settings: Sequence[Setting], device: torch.device) -> Setting:
    """Return one setting whose model is the mean of those, or the only one."""
    if len(settings) == 1:
        return settings[0]
    mean = Mean([setting.module for setting in settings]).to(device).eval()
    x = settings[0].split.x[:_ROWS].to(device)
    notes = tuple(dict.fromkeys(note for setting in settings for note in setting.notes))
    return replace(settings[0], module=mean, blocks=fitting_blocks(mean, x), notes=notes)


def check_models(plan: Plan, models: Sequence[str], lent: Sequence[str], dataset: Dataset) -> None:
    """Check, before a run begins, that surrogates answer for the data, and that models open.

    One model alone ends its run before there is a record; one of several would end it midway.

    Args:
        plan: the run's, checked.
        models: its models in the words of who asks, for the message.
        lent: its surrogates in these words.
        dataset: what they are asked about.

    Raises:
        UsageError: one of them cannot answer for the data.
        TrustError: a surrogate does not open.
    """
    for text in models if len(models) > 1 else ():
        recipe = read_recipe(text)
        if recipe.is_deployed:
            with suppress(MethodFailed, NotApplicable), _named(f"--model {text}"):
                check_names(build(recipe, dataset.test.domain, plan.seed), dataset.class_names)
    for text, (recipe, own) in zip(lent, named(plan, plan.seed).values(), strict=True):
        with _named(f"--surrogate {text}"):
            _check_classes(recipe, own, dataset)


def _check_classes(recipe: Recipe, seed: int, dataset: Dataset) -> None:
    """Check on two samples, before any training, that a model tells the data's classes apart.

    Raises:
        BadInput: it does not.
        TrustError: it does not open, or its weights do not load.
    """
    two = dataset.test.at(slice(0, 2))
    with blaming(f"model {recipe.name}"):
        module = build(recipe, two.domain, seed)
        if recipe.weights is not None and not recipe.at("serving"):
            load_weights(module, recipe.weights)
        check_names(module, dataset.class_names)
        with torch.no_grad(), frozen(module.eval()):
            logits = module(two.x)
    if isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] != two.classes:
        raise BadInput(f"the model answers {logits.shape[1]} classes; the data have {two.classes}")


@contextmanager
def _named(word: str) -> Iterator[None]:
    """Put before an error what it is about."""
    try:
        yield
    except TrustError as error:
        raise type(error)(f"{word}: {error}") from error


def check_lent(record: Record, bench: Bench) -> None:
    """Check that the run holds the surrogates that the record names.

    Raises:
        BrokenClaim: it does not, or they are others.
    """
    wanted = named(bench.plan, record.seed)
    if list(record.surrogates) != list(wanted):
        raise BrokenClaim(f"{record.case}: its surrogates are not those of the plan")
    domain, seen = bench.setting.split.domain, bench.memory.setdefault("seen surrogates", set())
    for name, (recipe, own) in wanted.items():
        weights = record.surrogates[name]
        if (name, weights) not in seen:
            recorded_module(recipe, domain, own, (weights, bench.folder / MODELS))
            seen.add((name, weights))


def _settled(bench: Bench, recipe: Recipe, seed: int) -> Setting:
    plan = replace(bench.plan, seed=seed)
    word = recipe.text if recipe.is_deployed else recipe.name
    with _named(f"surrogate {word}"):
        return settle(plan, recipe, bench.dataset, bench.device, bench.folder / MODELS)
