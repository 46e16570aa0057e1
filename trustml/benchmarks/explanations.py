"""The exam of an explanation: every metric that it is defined for, its cost, and the random row."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.baselines import baseline_of
from trustml.benchmarks.explained import Explain, Explained
from trustml.benchmarks.explanation_cost import Passes, counted
from trustml.benchmarks.explanation_leak import Leak, leak
from trustml.benchmarks.explanation_removal import deletion, insertion, road
from trustml.benchmarks.explanation_sanity import (
    complexity_rise,
    data_randomisation,
    parameter_randomisation,
)
from trustml.benchmarks.explanation_scores import Difference, Measured, compare, holm
from trustml.benchmarks.explanation_stability import max_sensitivity, stability_under_attack
from trustml.benchmarks.explanation_sums import (
    completeness,
    infidelity,
    multi_baseline,
    sensitivity_n,
)
from trustml.benchmarks.explanation_truth import Planted, localisation, mosaics, triggered
from trustml.contracts import Access, Classifier, Cost
from trustml.errors import BadInput, MethodFailed, NotApplicable, UnknownName
from trustml.recipes import Choice

# The rows that stand in every table: the truth where it is known, and two that know nothing.
REFERENCES = ("linear_exact", "random", "blurred_random")
NOTHING = "random"
ROWS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked of every method alike: of this model, why these classes for these inputs?

    Args:
        model: in which the explanation is to be found.
        x: inputs (B, *S).
        target: classes to be explained (B,).
        background: training inputs (N, *S).
        bounds: lowest and highest value of an input.
        baseline: what inputs are compared with, where a method has no baseline of its own.
        shuffled: the same network trained on shuffled labels, if there is one.
        seed: of everything that is drawn.
    """

    model: Classifier
    x: Tensor
    target: Tensor
    background: Tensor
    bounds: tuple[float, float] = (0.0, 1.0)
    baseline: str = "zero"
    shuffled: nn.Module | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A method's maps, its figures, the metrics that are not for it with the reason, its cost."""

    method: str
    explained: Explained
    measured: Mapping[str, Measured]
    skipped: Mapping[str, str]
    cost: Cost


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A question, a method, its maps, and the point that they are compared with."""

    question: Question
    method: Choice
    explained: Explained
    baseline: Tensor

    def explain(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the method's maps of other inputs."""
        return explainer(self.method, self.question.model, self.question.background)(x, target)

    def explain_in(self, model: Any, x: Tensor, target: Tensor) -> Tensor:
        """Return the method's maps in another model."""
        return explainer(self.method, model, self.question.background)(x, target)


def examine(
    question: Question, method: Choice, *, metrics: tuple[str, ...] | None = None
) -> Examined:
    """Return the method's figures on the question; `metrics` are all of METRICS by default.

    Raises:
        NotApplicable: the method is not for this model or these inputs.
        MethodFailed: the method raised, or its maps are not what they should be.
        UnknownName: no metric of that name.
    """
    for name in metrics or ():
        if name not in METRICS:
            raise UnknownName.of("metric of explanations", name, METRICS)
    began = time.perf_counter()
    gradients = method.plugin.facts["needs"] >= Access.GRADIENTS
    with counted(question.model if gradients else None) as passes:
        explain = explainer(method, question.model, question.background, passes)
        maps = explain(question.x, question.target)
    seconds = time.perf_counter() - began
    count = len(question.x)
    cost = Cost(seconds, passes.forwards / count, passes.backwards / count, 0.0)
    influence = bool(method.plugin.facts["influence"])
    explained = Explained(question.x, question.target, maps, influence)
    compared = str(method.options.get("baseline", question.baseline))
    point = _point(question, compared)
    case = _Case(question, method, explained, point)
    measured, skipped = {}, {}
    for name in metrics or METRICS:
        try:
            measured[name] = METRICS[name](case)
        except NotApplicable as reason:
            skipped[name] = str(reason)
        except MethodFailed as reason:
            skipped[name] = f"failed: {reason}"
    return Examined(method.text, explained, measured, skipped, cost)


def explainer(
    method: Choice, model: Classifier, background: Tensor, passes: Passes | None = None
) -> Explain:
    """Return (x, target) → maps of the method, a few hundred rows at a time.

    A method that declares that it needs no gradients is handed a model that gives none, and what
    it asks is added to `passes`.
    """
    needs = method.plugin.facts["needs"]

    def explain(x: Tensor, target: Tensor) -> Tensor:
        maps = []
        for rows, wanted in zip(x.split(ROWS), target.split(ROWS), strict=True):
            handed = model if needs >= Access.GRADIENTS else Handed(model, needs, len(rows))
            maps.append(_called(method, handed, rows, wanted, background))
            if passes is not None and isinstance(handed, Handed):
                passes.forwards += int(handed.forwards.sum().round())
        return torch.cat(maps)

    return explain


def beside_nothing(results: Mapping[str, Examined]) -> dict[str, dict[str, Difference]]:
    """Return metric → method → its lead over the random row, paired, Holm over the methods.

    Raises:
        BadInput: there is no random row among the results.
    """
    nothing = next((r for r in results.values() if r.method.split(":")[0] == NOTHING), None)
    if nothing is None:
        raise BadInput(f"there is no row {NOTHING!r} to compare with: examine it too")
    table: dict[str, dict[str, Difference]] = {}
    for metric, floor in nothing.measured.items():
        names = [
            name
            for name, result in results.items()
            if metric in result.measured and result is not nothing
        ]
        gaps = []
        for name in list(names):
            try:
                gaps.append(compare(results[name].measured[metric], floor))
            except NotApplicable:
                names.remove(name)  # no sample has a value of both: nothing to compare
        table[metric] = dict(zip(names, holm(gaps), strict=True))
    return table


def leaked(question: Question, method: Choice, pool: Tensor, fresh: Tensor, **options: Any) -> Leak:
    """Return how many of the method's explanations give the model away; options as of `leak`."""
    explain = explainer(method, question.model, question.background)
    influence = bool(method.plugin.facts["influence"])
    return leak(question.model, explain, pool, fresh, influence=influence, **options)


def _called(
    method: Choice, model: Classifier, x: Tensor, target: Tensor, background: Tensor
) -> Tensor:
    name = method.plugin.name
    try:
        maps = method.plugin.function(model, x, target, background, **method.options)
    except (NotApplicable, MethodFailed):
        raise
    except Exception as error:  # a method may raise anything: it fails, the exam goes on
        raise MethodFailed(f"{name} raised {type(error).__name__}: {error}") from error
    if not isinstance(maps, Tensor) or maps.shape != x.shape or not bool(maps.isfinite().all()):
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise MethodFailed(f"{name} returned {shape}, not finite maps of shape {tuple(x.shape)}")
    return maps.detach()


def _point(question: Question, name: str) -> Tensor:
    return baseline_of(name, question.model, question.x, question.target, question.background)


def _many_points(case: _Case) -> dict[str, Tensor]:
    """Return the baselines that one map is held against: black, the mean, grey, another input."""
    question = case.question
    grey = sum(question.bounds) / 2
    return {
        "zero": torch.zeros_like(question.x),
        "mean": _point(question, "mean"),
        "grey": torch.full_like(question.x, grey),
        "other": question.background[:1].expand_as(question.x).to(question.x),
    }


def _network(case: _Case) -> nn.Module:
    model = case.question.model
    if not isinstance(model, nn.Module):
        raise NotApplicable("it needs the nn.Module itself, and the model shows none")
    return model


def _shuffled(case: _Case) -> Measured:
    other = case.question.shuffled
    if other is None:
        raise NotApplicable("there is no model that learnt shuffled labels")
    theirs = case.explain_in(other, case.question.x, case.question.target)
    return data_randomisation(case.explained.maps, theirs)


def _found(case: _Case, planted: Planted) -> Measured:
    """Return the share of positive parts within what was planted; background is black."""
    plain, model = torch.zeros_like(planted.x), cast(Classifier, planted.model)
    maps = explainer(case.method, model, plain[:8])(planted.x, planted.target)
    influence = bool(case.method.plugin.facts["influence"])
    told = Explained(planted.x, planted.target, maps, influence)
    return localisation(told, plain, planted.truth).mass


def _in_mosaics(case: _Case) -> Measured:
    question = case.question
    count = len(question.x)
    return _found(
        case,
        mosaics(_network(case), question.x, question.target, count=count, seed=question.seed),
    )


def _in_triggers(case: _Case) -> Measured:
    question = case.question
    called = torch.full_like(question.target, int(question.target.min()))
    value = question.bounds[1]
    return _found(
        case, triggered(_network(case), question.x, called, value=value, seed=question.seed)
    )


METRICS: Mapping[str, Callable[[_Case], Measured]] = {
    "completeness error": lambda c: completeness(c.question.model, c.explained, c.baseline),
    "multi-baseline error": lambda c: multi_baseline(
        c.question.model, c.explained, _many_points(c)
    ),
    "infidelity": lambda c: infidelity(
        c.question.model, c.explained, c.baseline, scaled=True, seed=c.question.seed
    ),
    "sensitivity-n": lambda c: sensitivity_n(
        c.question.model, c.explained, c.baseline, seed=c.question.seed
    ),
    "deletion": lambda c: deletion(
        c.question.model, c.explained, c.baseline, seed=c.question.seed
    ),
    "insertion": lambda c: insertion(
        c.question.model, c.explained, c.baseline, seed=c.question.seed
    ),
    "ROAD": lambda c: road(c.question.model, c.explained, c.baseline, seed=c.question.seed),
    "maximum sensitivity": lambda c: max_sensitivity(
        c.explain, c.question.x, c.question.target, bounds=c.question.bounds, seed=c.question.seed
    ),
    "maximum sensitivity, attacked": lambda c: max_sensitivity(
        c.explain, c.question.x, c.question.target,
        climbs=20, bounds=c.question.bounds, seed=c.question.seed,
    ),
    "stability under attack": lambda c: stability_under_attack(
        c.question.model, c.explain, c.question.x, c.question.target,
        climbs=20, bounds=c.question.bounds, seed=c.question.seed,
    ),
    "parameter randomisation": lambda c: parameter_randomisation(
        _network(c), c.explain_in, c.question.x, c.question.target, seed=c.question.seed
    ),
    "complexity rise": lambda c: complexity_rise(
        _network(c), c.explain_in, c.question.x, c.question.target, seed=c.question.seed
    ),
    "data randomisation": _shuffled,
    "mosaic localisation": _in_mosaics,
    "trigger localisation": _in_triggers,
}  # fmt: skip
