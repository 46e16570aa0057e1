"""Split conformal prediction: sets of classes that hold the true one as often as was asked for.

The guarantee needs nothing of the model: only that the samples it was fitted on and those it is
used on come from one source, and that the model has learnt from neither.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trustml.bayes.conjugate import Beta
from trustml.bootstrap import percentile, resampled
from trustml.contracts import Score
from trustml.errors import BadInput, BadOption
from trustml.metrics import LEVEL, accuracy, proportion

ROUNDING = 1e-9
Strangeness = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class PredictionSets:
    """Logits (B, K) → (B, K) bool, the classes that are not stranger than the threshold.

    Args:
        strangeness: logits (B, K) → how strange each class would be as the truth, (B, K).
        threshold: the greatest strangeness that is let in; infinite lets in all.
        expected: the coverage to be expected, with the 95 % that samples like those of the fit
            leave open.
        never_empty: whether the likeliest class is always let in.
    """

    strangeness: Strangeness
    threshold: float
    expected: Score
    never_empty: bool

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the sets (B, K) bool of logits (B, K)."""
        sets = self.strangeness(logits) <= self.threshold
        if self.never_empty:
            sets = sets.scatter(1, logits.argmax(1, keepdim=True), True)
        return sets


def split_conformal(
    logits: Tensor, y: Tensor, *, miss: float = 0.1, never_empty: bool = True
) -> PredictionSets:
    """Return the smallest sets on average: every class likelier than one threshold.

    Vovk et al. 2005; Sadinle, Lei, Wasserman 2019.

    Args:
        logits: of samples that the model has not learnt from, (B, K).
        y: their classes.
        miss: how often the true class may be left out.
        never_empty: let the likeliest class in always; coverage can only gain.

    Raises:
        BadInput: no rows, shapes or labels that do not fit, or NaN.
        BadOption: `miss` outside (0, 1).
    """
    return _fitted(_unlikely, logits, y, miss, never_empty)


def adaptive_sets(
    logits: Tensor, y: Tensor, *, miss: float = 0.1, never_empty: bool = True
) -> PredictionSets:
    """Return sets that grow where the model is unsure: classes by falling probability up to a mass.

    Romano, Sesia, Candès 2020, without randomisation, so that an answer is the same each time.

    Args:
        logits: of samples that the model has not learnt from, (B, K).
        y: their classes.
        miss: how often the true class may be left out.
        never_empty: let the likeliest class in always; coverage can only gain.

    Raises:
        BadInput: no rows, shapes or labels that do not fit, or NaN.
        BadOption: `miss` outside (0, 1).
    """
    return _fitted(_mass, logits, y, miss, never_empty)


def conformal_scores(sets: Tensor, y: Tensor) -> dict[str, Score]:
    """Return measured coverage, worst_class_coverage, mean_size and singletons of sets (B, K).

    Raises:
        BadInput: no rows, or shapes or labels that do not fit.
    """
    accuracy(sets.float(), y)  # refuses what does not fit
    held = sets.gather(1, y.to(sets.device)[:, None])[:, 0].cpu()
    sizes = sets.sum(1).cpu().double().numpy()
    drawn = np.concatenate(
        [counts @ sizes for (counts,) in resampled((np.arange(len(y)),), len(y))]
    ) / len(y)
    classes = [held[y.cpu() == k] for k in y.unique().tolist()]
    by_class = [proportion(int(mine.sum()), len(mine)) for mine in classes]
    return {
        "coverage": proportion(int(held.sum()), len(held)),
        "worst_class_coverage": min(by_class, key=lambda score: score.value),
        "mean_size": percentile(float(sizes.mean()), drawn, "lower"),
        "singletons": proportion(int((sizes == 1).sum()), len(sizes)),
    }


def conformal_quantile(strangeness: Tensor, miss: float) -> float:
    """Return the ceil((n + 1)(1 - miss))-th smallest of (n,); +inf if there are not that many.

    A new sample from the same source is above it with probability `miss` at most.

    Raises:
        BadInput: no value, or NaN among them.
        BadOption: `miss` outside (0, 1).
    """
    if strangeness.ndim != 1 or not len(strangeness):
        raise BadInput(f"values {tuple(strangeness.shape)}: give (B,), B at least 1")
    if bool(strangeness.isnan().any()):
        raise BadInput("NaN among the values: no threshold can be put among them")
    place = rank(len(strangeness), miss)
    if place > len(strangeness):
        return math.inf
    return float(strangeness.detach().double().sort().values[place - 1])


def expected_share(count: int, miss: float) -> Score:
    """Return the share above the threshold of `count` samples to be expected, with its interval.

    Over all samples that could have been drawn for the fit it is Beta(n + 1 - k, k), k the place of
    the threshold, if no two values are equal; with equal ones it is no more (Vovk 2012).

    Raises:
        BadOption: `miss` outside (0, 1).
    """
    place = rank(count, miss)
    if place > count:
        return Score(0.0, 0.0, 0.0, "lower")
    belief = Beta(count + 1 - place, place)
    return Score(belief.mean, *belief.interval(LEVEL), "lower")


def rank(count: int, miss: float) -> int:
    """Return ceil((n + 1)(1 - miss)), the place of the threshold among n values in order.

    Raises:
        BadOption: `miss` outside (0, 1).
    """
    if not 0 < miss < 1:
        raise BadOption(f"a share of {miss} to miss is not allowed: it must lie between 0 and 1")
    return math.ceil((count + 1) * (1 - miss) - ROUNDING)


def _fitted(
    strangeness: Strangeness, logits: Tensor, y: Tensor, miss: float, never_empty: bool
) -> PredictionSets:
    accuracy(logits, y)
    mine = strangeness(logits).gather(1, y.to(logits.device)[:, None])[:, 0]
    missed = expected_share(len(y), miss)
    expected = Score(1 - missed.value, 1 - missed.high, 1 - missed.low, "higher")
    return PredictionSets(strangeness, conformal_quantile(mine, miss), expected, never_empty)


def _unlikely(logits: Tensor) -> Tensor:
    return 1 - logits.detach().double().softmax(1)


def _mass(logits: Tensor) -> Tensor:
    """Return the mass of each class and of all likelier ones, (B, K)."""
    p = logits.detach().double().softmax(1)
    ordered, order = p.sort(dim=1, descending=True, stable=True)
    return torch.zeros_like(ordered).scatter(1, order, ordered.cumsum(1))
