"""How well a suspicion parts odd samples from ordinary ones: AUROC, AUPR, FPR95, risk-coverage.

Higher is more suspicious. "Ordinary" are inputs from the distribution, or right answers; "odd" are
inputs from outside, or wrong answers. Samples of equal suspicion are one group: no order among
them is ever made up, so a constant suspicion has an AUROC of exactly ½.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from torch import Tensor

from trustml import ranks
from trustml.bayes.conjugate import Beta
from trustml.bootstrap import Metric, scores_of
from trustml.contracts import Score
from trustml.errors import BadInput
from trustml.metrics import LEVEL
from trustml.ranks import Ranked, ranked

Positive = Literal["ordinary", "odd"]
KEPT = 0.95
FEW = 10  # samples of a side that tell next to nothing
# What each name means, for tables and pages to print.
MEANING: Mapping[str, str] = {
    "auroc": "chance that a random odd sample is more suspicious than a random ordinary one",
    "aupr_in": "average precision, positive: inside, ranked from the least suspicious",
    "aupr_out": "average precision, positive: outside, ranked from the most suspicious",
    "fpr95_positive_in": "share of outside samples accepted when 95 % of the inside are",
    "fpr95_positive_out": "share of inside samples flagged when 95 % of the outside are",
    "aupr_success": "average precision, positive: right answers",
    "aupr_error": "average precision, positive: wrong answers",
    "fpr95_positive_success": "share of wrong answers accepted when 95 % of the right ones are",
    "fpr95_positive_error": "share of right answers flagged when 95 % of the wrong ones are",
    "aurc": "mean error rate among the accepted, over all coverages",
    "e_aurc": "AURC above that of the best order of the same answers",
    "augrc": "mean share of all samples that are accepted and wrong, over all coverages",
}


@dataclass(frozen=True, slots=True)
class Separation:
    """Name → score, with what a reader should know of them.

    Args:
        scores: by the names of `MEANING`.
        notes: what is odd about the suspicions.
        odd_share: of the odd samples among all: a blind score's average precision, where the odd
            are positive.
    """

    scores: Mapping[str, Score]
    notes: tuple[str, ...] = ()
    odd_share: float = 0.5


def outside_scores(inside: Tensor, outside: Tensor) -> Separation:
    """Return AUROC, AUPR-in, AUPR-out and both FPR95 of suspicions (B,) and (B',).

    Raises:
        BadInput: no sample on one side, or a suspicion that is NaN.
    """
    groups = ranked(inside, outside, ("inside", "outside"))
    scores = {
        "auroc": _delong(groups),
        **scores_of(groups, _separations("in", "out"), together=False),
    }
    return Separation(scores, _notes(groups, "inside", "outside"), _odd_share(groups))


def failure_scores(suspicion: Tensor, wrong: Tensor) -> Separation:
    """Return how well suspicions (B,) foretell which answers are wrong (B,) bool.

    AUROC, AUPR-success, AUPR-error, both FPR95, AURC, E-AURC and AUGRC.

    Raises:
        BadInput: all answers are right, or all wrong; shapes that do not fit; a suspicion is NaN.
    """
    groups = _by_answer(suspicion, wrong)
    if not groups.odd.sum() or not groups.ordinary.sum():
        which = "right" if groups.ordinary.sum() else "wrong"
        raise BadInput(
            f"all {len(wrong)} answers are {which}: failure prediction needs some of both; "
            f"score more samples"
        )
    metrics = {**_separations("success", "error"), **RISKS}
    scores = {"auroc": _delong(groups), **scores_of(groups, metrics, together=True)}
    notes = _notes(groups, "right answers", "wrong answers")
    return Separation(scores, notes, _odd_share(groups))


def auroc(ordinary: Tensor, odd: Tensor) -> Score:
    """Return P(odd > ordinary) + ½ P(equal), with DeLong's interval on the logit scale.

    Where DeLong's variance is 0 or unknown (perfect, inverted, one sample) the interval is the Beta
    posterior of as many independent pairs as there are.

    Raises:
        BadInput: no sample on one side, or a suspicion that is NaN.
    """
    return _delong(ranked(ordinary, odd))


def average_precision(ordinary: Tensor, odd: Tensor, *, positive: Positive) -> Score:
    """Return the average precision (not the trapezoid) with the named class as the positive one.

    Raises:
        BadInput: no sample on one side, or a suspicion that is NaN.
    """
    name = f"aupr_{positive}"
    metrics = {name: _separations("ordinary", "odd")[name]}
    return scores_of(ranked(ordinary, odd), metrics, together=False)[name]


def false_positive_rate(
    ordinary: Tensor, odd: Tensor, *, positive: Positive, at: float = KEPT
) -> Score:
    """Return the share of the other class that passes as positive when `at` of the positive do.

    The threshold is the strictest that lets at least `at` of the positive class pass. The interval
    is the wider of the Beta-Binomial at that threshold and the bootstrap, where it moves.

    Raises:
        BadInput: no sample on one side, a suspicion that is NaN, or `at` outside (0, 1].
    """
    if not 0 < at <= 1:
        raise BadInput(f"at={at}: the share of positives to keep must lie in (0, 1]")
    name = f"fpr95_positive_{positive}"
    metrics = {name: _separations("ordinary", "odd", at)[name]}
    return scores_of(ranked(ordinary, odd), metrics, together=False)[name]


def aurc(suspicion: Tensor, wrong: Tensor) -> Score:
    """Return the area under risk (error rate of the accepted) against coverage.

    The mean over coverages 1/B … 1; within a group of equal suspicion, of every order there is.

    Raises:
        BadInput: no sample, shapes that do not fit, or a suspicion that is NaN.
    """
    return _risk(suspicion, wrong, "aurc")


def excess_aurc(suspicion: Tensor, wrong: Tensor) -> Score:
    """Return AURC minus the AURC of the best order that these answers could have.

    Raises:
        BadInput: no sample, shapes that do not fit, or a suspicion that is NaN.
    """
    return _risk(suspicion, wrong, "e_aurc")


def augrc(suspicion: Tensor, wrong: Tensor) -> Score:
    """Return the area under P(accepted and wrong) against coverage (Traub et al. 2024).

    Raises:
        BadInput: no sample, shapes that do not fit, or a suspicion that is NaN.
    """
    return _risk(suspicion, wrong, "augrc")


RISKS: Mapping[str, Metric] = {  # the least suspicious are accepted first
    "aurc": Metric(lambda o, d: ranks.aurc(o.backwards, d.backwards), "lower"),
    "e_aurc": Metric(lambda o, d: ranks.excess_aurc(o.backwards, d.backwards), "lower"),
    "augrc": Metric(lambda o, d: ranks.augrc(o.backwards, d.backwards), "lower"),
}


def _by_answer(suspicion: Tensor, wrong: Tensor) -> Ranked:
    if suspicion.ndim != 1 or wrong.shape != suspicion.shape or not len(wrong):
        raise BadInput(
            f"suspicions {tuple(suspicion.shape)} and wrong {tuple(wrong.shape)} do not fit: "
            f"give (B,) and (B,), B at least 1"
        )
    wrong = wrong.bool().to(suspicion.device)
    return ranked(suspicion[~wrong], suspicion[wrong], ("right", "wrong"), empty=True)


def _risk(suspicion: Tensor, wrong: Tensor, name: str) -> Score:
    groups = _by_answer(suspicion, wrong)
    return scores_of(groups, {name: RISKS[name]}, together=True)[name]


def _separations(ordinary: str, odd: str, at: float = KEPT) -> dict[str, Metric]:
    """Return average precision and false positive rate with either class as the positive one."""
    precision, passing = ranks.average_precision, ranks.passing
    return {
        f"aupr_{ordinary}": Metric(lambda o, d: precision(o.backwards, d.backwards), "higher"),
        f"aupr_{odd}": Metric(lambda o, d: precision(d, o), "higher"),
        f"fpr95_positive_{ordinary}": Metric(
            lambda o, d: passing(o.backwards, d.backwards, at), "lower", share_of="odd"
        ),
        f"fpr95_positive_{odd}": Metric(
            lambda o, d: passing(d, o, at), "lower", share_of="ordinary"
        ),
    }


def _delong(groups: Ranked) -> Score:
    """Return the AUROC with DeLong's interval (DeLong, DeLong, Clarke-Pearson 1988).

    A variance that is taken from few samples may be anything: then the interval is no narrower than
    that of as many independent pairs, whose variance is the largest that there can be.
    """
    value, variance = ranks.auroc(groups)
    if groups.constant:
        return Score(value, value, value, "higher")
    pairs = int(min(groups.ordinary.sum(), groups.odd.sum()))
    belief = Beta(1 + value * pairs, 1 + (1 - value) * pairs)
    tail = (1 - LEVEL) if value in (0.0, 1.0) else (1 - LEVEL) / 2
    least = 0.0 if value == 0 else min(value, belief.quantile(tail))
    most = 1.0 if value == 1 else max(value, belief.quantile(1 - tail))
    if not 0 < value < 1 or not variance > 0:
        return Score(value, least, most, "higher")
    centre = math.log(value / (1 - value))
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(centre + side * reach))) for side in (-1, 1))
    if pairs < FEW:
        low, high = min(low, least), max(high, most)
    return Score(value, low, high, "higher")


def _odd_share(groups: Ranked) -> float:
    ordinary, odd = int(groups.ordinary.sum()), int(groups.odd.sum())
    return odd / (ordinary + odd)


def _notes(groups: Ranked, ordinary: str, odd: str) -> tuple[str, ...]:
    notes = []
    for counts, name in ((groups.ordinary, ordinary), (groups.odd, odd)):
        if (count := int(counts.sum())) < FEW:
            notes.append(f"too few samples to tell much ({name}: {count})")
    if groups.constant:
        notes.append(
            "every sample has the same suspicion: an AUROC of 50 % is all that it can have"
        )
    return tuple(notes)
