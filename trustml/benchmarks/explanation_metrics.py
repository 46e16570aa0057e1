"""Every metric of the exam of explanations: a method that was posed a question → its figure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import cast

import torch
from torch import nn

from trustml.access import frozen, in_blocks
from trustml.benchmarks.explained import Explain, Explained
from trustml.benchmarks.explanation_attack import smooth_stand_in
from trustml.benchmarks.explanation_leak import Leak, leak
from trustml.benchmarks.explanation_question import Posed, explainer
from trustml.benchmarks.explanation_removal import deletion, insertion, road
from trustml.benchmarks.explanation_sanity import (
    complexity_rise,
    data_randomisation,
    parameter_randomisation,
)
from trustml.benchmarks.explanation_scores import Measured
from trustml.benchmarks.explanation_stability import max_sensitivity, stability_under_attack
from trustml.benchmarks.explanation_sums import (
    completeness,
    infidelity,
    multi_baseline,
    sensitivity_n,
)
from trustml.benchmarks.explanation_truth import (
    Planted,
    by_cells,
    localisation,
    mosaics,
    triggered,
)
from trustml.contracts import Classifier, Score
from trustml.errors import NotApplicable

# What an explanation gives away is its price, not its merit: a map of nothing gives nothing away.
PRICES = ("queries to 99 %", "leaked agreement")
_POINTS = (1, 2, 5, 10, 20, 50)
# Explanations that a thief asks for at most, if that is one of each class.
_MOST_QUERIES = 500


def _completeness(posed: Posed) -> Measured:
    return completeness(posed.question.model, posed.explained, posed.baseline)


def _multi_baseline(posed: Posed) -> Measured:
    """Return the error over black, the mean, grey, and another input."""
    question = posed.question
    points = {
        "zero": torch.zeros_like(question.x),
        "mean": question.point("mean"),
        "grey": torch.full_like(question.x, sum(question.bounds) / 2),
        "other": question.background[:1].expand_as(question.x).to(question.x),
    }
    return multi_baseline(question.model, posed.explained, points)


def _infidelity(posed: Posed) -> Measured:
    question = posed.question
    return infidelity(
        question.model, posed.explained, posed.baseline, scaled=True, seed=question.seed
    )


def _sensitivity_n(posed: Posed) -> Measured:
    question = posed.question
    return sensitivity_n(question.model, posed.explained, posed.baseline, seed=question.seed)


def _deletion(posed: Posed) -> Measured:
    question = posed.question
    return deletion(question.model, posed.explained, posed.baseline, seed=question.seed)


def _insertion(posed: Posed) -> Measured:
    question = posed.question
    return insertion(question.model, posed.explained, posed.baseline, seed=question.seed)


def _road(posed: Posed) -> Measured:
    question = posed.question
    return road(question.model, posed.explained, posed.baseline, seed=question.seed)


def _sensitivity(posed: Posed, climbs: int = 0) -> Measured:
    question = posed.question
    return max_sensitivity(
        posed.explain, question.x, question.target,
        climbs=climbs, stand_in=_stand_in(posed), bounds=question.bounds, seed=question.seed,
    )  # fmt: skip


def _sensitivity_attacked(posed: Posed) -> Measured:
    return _sensitivity(posed, climbs=20)


def _stability(posed: Posed) -> Measured:
    question = posed.question
    return stability_under_attack(
        question.model, posed.explain, question.x, question.target,
        climbs=20, stand_in=_stand_in(posed), bounds=question.bounds, seed=question.seed,
    )  # fmt: skip


def _stand_in(posed: Posed) -> Explain | None:
    """Return maps with a graph for a method made of gradients; others are attacked by trial."""
    if not posed.sees_gradients:
        return None
    return smooth_stand_in(posed.question.model, influence=posed.influence)


def _parameters(posed: Posed) -> Measured:
    question = posed.question
    return parameter_randomisation(
        _network(posed), posed.explain_in, question.x, question.target, seed=question.seed
    )


def _complexity(posed: Posed) -> Measured:
    question = posed.question
    return complexity_rise(
        _network(posed), posed.explain_in, question.x, question.target, seed=question.seed
    )


def _labels(posed: Posed) -> Measured:
    question = posed.question
    if question.shuffled is None:
        raise NotApplicable("there is no model that learnt shuffled labels")
    other = question.shuffled()
    theirs = posed.explain_in(other.model, question.x, question.target)
    found = data_randomisation(posed.explained.maps, theirs)
    return replace(found, note=f"the other model gives {100 * other.fits:.0f} % of them back")


def _in_mosaics(posed: Posed) -> Measured:
    question = posed.question
    found = mosaics(
        _network(posed), question.x, question.target, count=len(question.x), seed=question.seed
    )
    return by_cells(_told(posed, found), question.model)


def _in_triggers(posed: Posed) -> Measured:
    """Return the share of positive parts within the patch."""
    question = posed.question
    called = torch.full_like(question.target, int(question.target.min()))
    value = question.bounds[1]
    found = triggered(_network(posed), question.x, called, value=value, seed=question.seed)
    return localisation(_told(posed, found), torch.zeros_like(found.x), found.truth).mass


def _told(posed: Posed, planted: Planted) -> Explained:
    """Return the method's maps of what was planted; the background is black."""
    black, model = torch.zeros_like(planted.x[:8]), cast(Classifier, planted.model)
    maps = explainer(posed.method, model, black)(planted.x, planted.target)
    return Explained(planted.x, planted.target, maps, posed.influence)


@lru_cache(maxsize=1)  # two figures are read off it
def _leak(posed: Posed) -> Leak:
    """Return what a thief learns from the method's maps, one of each class at some of its inputs.

    Raises:
        NotApplicable: there is nothing to steal with, or too little.
    """
    question = posed.question
    if question.pool is None or question.fresh is None:
        raise NotApplicable("there are no inputs for a thief to ask about")
    with frozen(question.model), torch.no_grad():
        classes = in_blocks(question.model, question.fresh[:1]).shape[1]
    most = min(len(question.pool), max(_MOST_QUERIES, classes))
    points = tuple(count for count in _POINTS if count * classes <= most)
    if not points:
        raise NotApplicable(
            f"a thief of {classes} classes needs as many inputs, and has {len(question.pool)}"
        )
    return leak(
        question.model, posed.explain, question.pool, question.fresh,
        influence=posed.influence, points=points,
    )  # fmt: skip


def _leaked(posed: Posed) -> Measured:
    """Return the thief's agreement (M,) after the most queries; the note says what others get."""
    found = _leak(posed)
    last = found.explained[-1]
    score = Score(last.value, last.low, last.high, "lower")
    plain = 100 * found.answered[-1].value
    note = f"after {found.queries[-1]} queries; from plain answers alone {plain:.1f} %"
    return Measured(found.hits, score, note=note)


def _queries(posed: Posed) -> Measured:
    """Return after how many queries the thief's copy answers 99 % of inputs as the model does.

    Raises:
        NotApplicable: it does not within those that were asked.
    """
    found = _leak(posed)
    reached = found.queries_to(0.99)
    if reached is None:
        raise NotApplicable(
            f"not within {found.queries[-1]} explanations, after which a copy agrees on "
            f"{100 * found.explained[-1].value:.1f} %"
        )
    sides = zip(found.queries, found.explained, strict=True)
    low = next(count for count, score in sides if score.high >= 0.99)
    sure = (q for q, s in zip(found.queries, found.explained, strict=True) if s.low >= 0.99)
    score = Score(reached, min(low, reached), max(next(sure, found.queries[-1]), reached), "higher")
    counts = {
        "99.9 %": found.queries_to(0.999),
        "99 % by plain answers": found.queries_to(0.99, explained=False),
    }
    told = (
        f"{what}: {count or f'not within {found.queries[-1]}'}" for what, count in counts.items()
    )
    return Measured(torch.tensor([float(reached)]), score, note="; ".join(told))


def _network(posed: Posed) -> nn.Module:
    model = posed.question.model
    if not isinstance(model, nn.Module):
        raise NotApplicable("it needs the nn.Module itself, and the model shows none")
    return model


METRICS: Mapping[str, Callable[[Posed], Measured]] = {
    "completeness error": _completeness,
    "multi-baseline error": _multi_baseline,
    "infidelity": _infidelity,
    "sensitivity-n": _sensitivity_n,
    "deletion": _deletion,
    "insertion": _insertion,
    "ROAD": _road,
    "maximum sensitivity": _sensitivity,
    "maximum sensitivity, attacked": _sensitivity_attacked,
    "stability under attack": _stability,
    "parameter randomisation": _parameters,
    "complexity rise": _complexity,
    "data randomisation": _labels,
    "mosaic localisation": _in_mosaics,
    "trigger localisation": _in_triggers,
    "queries to 99 %": _queries,
    "leaked agreement": _leaked,
}
