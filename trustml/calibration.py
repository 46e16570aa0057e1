"""Do stated probabilities come true? ECE, Brier score, NLL, and maps that mend the probabilities.

Logits may be log probabilities: those of a Bayesian model are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from trustml.bootstrap import percentile, reflected, resampled
from trustml.contracts import Score
from trustml.errors import BadInput, BadOption
from trustml.metrics import accuracy
from trustml.ranks import Values

Equal = Literal["width", "mass"]
Calibrator = Callable[[Tensor], Tensor]
BINS = 15
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Bins of confidence: how many fell in, their mean confidence, and their accuracy, each (N,).

    Means of empty bins are NaN. `edges` (N - 1,) lie between the bins, each in the lower one.
    """

    edges: Values
    counts: Values
    confidence: Values
    accuracy: Values


def calibration_scores(logits: Tensor, y: Tensor, *, bins: int = BINS) -> dict[str, Score]:
    """Return ece, adaptive_ece, brier and nll of logits (B, K) labelled y (B,).

    ece: mean gap between confidence and accuracy over bins of equal width; adaptive_ece: over bins
    of equally many samples. Noise can only raise either, so their interval is the basic bootstrap
    and reaches down past it. brier: mean squared distance to the one-hot label, 0 to 2. nll: mean
    -log p(y), in nats.

    Raises:
        BadInput: no rows, shapes or labels that do not fit, or NaN.
        BadOption: fewer than one bin.
    """
    log_probabilities, answered, right = _answers(logits, y)
    gaps = answered - right
    kinds: dict[str, Equal] = {"ece": "width", "adaptive_ece": "mass"}
    boxes = {
        name: _one_hot(_placed(answered, _edges(answered, bins, equal)), bins)
        for name, equal in kinds.items()
    }
    means = _means(log_probabilities, y)
    columns = [*(box * gaps[:, None] for box in boxes.values()), *(m[:, None] for m in means)]
    table = np.concatenate(columns, 1)
    infinite: Any = np.isinf(table).any(0)
    table[:, infinite] = 0.0
    drawn = np.concatenate([counts @ table for (counts,) in _draws(len(y))]) / len(y)
    summed = table.sum(0) / len(y)
    scores = {}
    for place, name in enumerate(boxes):
        mine = slice(place * bins, (place + 1) * bins)
        value = float(np.abs(summed[mine]).sum())
        scores[name] = reflected(value, np.abs(drawn[:, mine]).sum(1), "lower", 0.0)
    for place, name in enumerate(("brier", "nll"), 2 * bins):
        scores[name] = percentile(float(summed[place]), drawn[:, place], "lower")
        if infinite[place]:
            scores[name] = Score(math.inf, math.inf, math.inf, "lower")
    return scores


def reliability(
    logits: Tensor, y: Tensor, *, bins: int = BINS, equal: Equal = "width"
) -> Reliability:
    """Return confidence and accuracy by bins of equal width, or of equally many samples.

    A bin holds its upper edge: a confidence of exactly 1 is in the last one. Equal confidences are
    never parted.

    Raises:
        BadInput: no rows, shapes or labels that do not fit, or NaN.
        BadOption: fewer than one bin.
    """
    _, answered, right = _answers(logits, y)
    edges = _edges(answered, bins, equal)
    box = _one_hot(_placed(answered, edges), bins)
    counts = box.sum(0)
    with np.errstate(invalid="ignore"):
        return Reliability(edges, counts, answered @ box / counts, right @ box / counts)


def fitted_temperature(logits: Tensor, y: Tensor) -> float:
    """Return the T that makes softmax(logits / T) likeliest, in [0.05, 20].

    Where every answer is right, the likelihood grows as T falls, and T is the least.

    Raises:
        BadInput: no rows, shapes or labels that do not fit, or NaN.
    """
    from scipy.optimize import minimize_scalar

    accuracy(logits, y)
    z = logits.detach().double().cpu()
    rows = torch.arange(len(y))

    def loss(log_temperature: float) -> float:
        scaled = (z * math.exp(-log_temperature)).log_softmax(1)
        return -float(scaled[rows, y.cpu()].mean())

    ends = math.log(COLDEST), math.log(HOTTEST)
    # The loss is convex in 1/T, so it has one valley in log T.
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7})
    return float(math.exp(min((*ends, float(found.x)), key=loss)))


def temperature_scaling(logits: Tensor, y: Tensor) -> Calibrator:
    """Return logits (B, K) → logits / T with the likeliest T (Guo et al. 2017, section 4.2).

    Raises:
        BadInput: no rows, shapes or labels that do not fit, or NaN.
    """
    temperature = fitted_temperature(logits, y)
    return lambda z: z / temperature


def platt_scaling(logits: Tensor, y: Tensor) -> Calibrator:
    """Return logits (B, K) → log probabilities, by a logistic curve on each class's log odds.

    One class against the rest, then made to sum to 1 (Platt 1999; Zadrozny, Elkan 2002).

    Raises:
        BadInput: no rows, shapes or labels that do not fit, NaN, or a class without a label.
    """
    from sklearn.linear_model import LogisticRegression

    _need_all_classes("Platt scaling", logits, y)
    odds, labels = _log_odds(logits), y.cpu().numpy()
    curves = []
    for k in range(odds.shape[1]):
        mine = labels == k
        # Platt's targets: not 1 and 0 but what so many samples allow, or the curve could be a wall.
        target = np.where(mine, (mine.sum() + 1) / (mine.sum() + 2), 1 / ((~mine).sum() + 2))
        both = np.tile(odds[:, k], 2)[:, None]
        answers, weights = np.repeat([1, 0], len(mine)), np.concatenate([target, 1 - target])
        curve = LogisticRegression(C=np.inf, max_iter=1000, tol=1e-8)
        curves.append(curve.fit(both, answers, sample_weight=weights))

    def calibrated(z: Tensor) -> Tensor:
        given = _log_odds(z)
        columns = [c.predict_proba(given[:, k : k + 1])[:, 1] for k, c in enumerate(curves)]
        return _normalised(np.stack(columns, 1), z)

    return calibrated


def isotonic_scaling(logits: Tensor, y: Tensor) -> Calibrator:
    """Return logits (B, K) → log probabilities, by a rising step curve for each class.

    One class against the rest, then made to sum to 1 (Zadrozny, Elkan 2002).

    Raises:
        BadInput: no rows, shapes or labels that do not fit, NaN, or a class without a label.
    """
    from sklearn.isotonic import IsotonicRegression

    _need_all_classes("isotonic scaling", logits, y)
    probabilities, labels = _probabilities(logits), y.cpu().numpy()
    curves = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
            probabilities[:, k], labels == k
        )
        for k in range(probabilities.shape[1])
    ]

    def calibrated(z: Tensor) -> Tensor:
        given = _probabilities(z)
        columns = [curve.predict(given[:, k]) for k, curve in enumerate(curves)]
        # A step at 0 is more than n samples can know; Laplace's rule leaves 1/(n+2).
        return _normalised(np.maximum(np.stack(columns, 1), 1 / (len(labels) + 2)), z)

    return calibrated


def _answers(logits: Tensor, y: Tensor) -> tuple[Tensor, Values, Values]:
    """Return log probabilities (B, K), the answer's confidence (B,), and whether it is right."""
    accuracy(logits, y)  # refuses what does not fit
    z = logits.detach().double().cpu().log_softmax(1)
    confidence, answer = z.max(1)
    return z, confidence.exp().numpy(), (answer == y.cpu()).double().numpy()


def _means(log_probabilities: Tensor, y: Tensor) -> tuple[Values, Values]:
    """Return what the Brier score and the NLL are the means of, (B,) each."""
    label = y.cpu()[:, None]
    probabilities = log_probabilities.exp()
    squares = probabilities.square().sum(1) - 2 * probabilities.gather(1, label)[:, 0] + 1
    return squares.numpy(), -log_probabilities.gather(1, label)[:, 0].numpy()


def _draws(count: int) -> Any:
    return resampled((np.arange(count),), count)


def _edges(confidence: Values, bins: int, equal: Equal) -> Values:
    if bins < 1:
        raise BadOption(f"bins={bins}: it must be 1 or more")
    if equal == "width":
        return np.linspace(0, 1, bins + 1)[1:-1]
    ends = np.ceil(np.arange(1, bins) * len(confidence) / bins).astype(int) - 1
    edges: Values = np.sort(confidence)[np.maximum(ends, 0)]
    return edges


def _placed(confidence: Values, edges: Values) -> Any:
    """Return each confidence's bin; one that is an edge is in the lower bin."""
    return np.searchsorted(edges, confidence, side="left")


def _one_hot(places: Any, bins: int) -> Values:
    return np.eye(bins)[places]


def _probabilities(logits: Tensor) -> Values:
    values: Values = logits.detach().double().cpu().softmax(1).numpy()
    return values


def _log_odds(logits: Tensor) -> Values:
    """Return log p/(1-p) of each class, exact where p is near 1; kept finite."""
    z = logits.detach().double().cpu().log_softmax(1)
    classes = z.shape[1]
    others = torch.stack(
        [z[:, [j for j in range(classes) if j != k]].logsumexp(1) for k in range(classes)], 1
    )
    odds: Values = (z - others).clamp(-700, 700).numpy()
    return odds


def _normalised(values: Values, like: Tensor) -> Tensor:
    """Return log probabilities (B, K) of values that need not sum to 1."""
    return torch.from_numpy(np.log(values / values.sum(1, keepdims=True))).to(like)


def _need_all_classes(what: str, logits: Tensor, y: Tensor) -> None:
    accuracy(logits, y)
    absent = sorted(set(range(logits.shape[1])) - set(y.tolist()))
    if absent:
        raise BadInput(
            f"{what} needs a label of every class to fit on, and there is none of {absent}; "
            f"temperature scaling does without"
        )
