"""What a service may do against thieves: masks change probabilities, gates see queries and refuse.

They go into `victim.Service(..., masks=…, gates=…)`. A mask maps probabilities (B, K) to such.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trustml.errors import BadOption, Refused

LEAST_DISTANCES = 100
MOST_DISTANCES = 5000  # what scipy's test of normality takes

Mask = Callable[[Tensor], Tensor]
Gate = Callable[[Tensor, Tensor], None]


def rounded(decimals: int) -> Mask:
    """Return the mask that shows so many decimals.

    Raises:
        BadOption: fewer than 1.
    """
    _need(decimals >= 1, f"decimals={decimals} is not allowed: it must be 1 or more")
    return lambda p: p.round(decimals=decimals)


def top_only() -> Mask:
    """Return the mask that shows the highest probability, and 0 for the other classes."""
    return lambda p: p * one_hot(p.argmax(1), p.shape[1])


def label_only() -> Mask:
    """Return the mask that shows the label as a probability of 1."""
    return lambda p: one_hot(p.argmax(1), p.shape[1]).to(p.dtype)


def noisy(sigma: float, random: torch.Generator) -> Mask:
    """Return the mask that adds normal noise, cut at 0 and summed to one again; labels may change.

    Raises:
        BadOption: a negative sigma.
    """
    _need(sigma >= 0, f"sigma={sigma} is not allowed: it must be 0 or more")

    def mask(p: Tensor) -> Tensor:
        noise = torch.randn(p.shape, generator=random, dtype=p.dtype).to(p.device)
        return _normalised((p + sigma * noise).clamp_min(0))

    return mask


def reverse_sigmoid(beta: float = 0.5, gamma: float = 0.2) -> Mask:
    """Return the mask of Lee et al. 2018 (arXiv:1806.00054): y − β (s(γ s⁻¹(y)) − ½), normalised.

    Every value on the curve below stands for several probabilities, so that it cannot be undone;
    with β small enough the label stays.

    Raises:
        BadOption: a beta below 0, or a gamma that is not positive.
    """
    _need(beta >= 0 and gamma > 0, f"beta={beta}, gamma={gamma}: beta ≥ 0 and gamma > 0 are needed")

    def mask(p: Tensor) -> Tensor:
        safe = p.clamp(torch.finfo(p.dtype).eps, 1 - torch.finfo(p.dtype).eps)
        bend = beta * ((gamma * safe.logit()).sigmoid() - 0.5)
        return _normalised((p - bend).clamp_min(0))

    return mask


def misinforming(threshold: float = 0.6, steepness: float = 50.0) -> Mask:
    """Return the mask of Kariyappa and Qureshi 2020 (CVPR): unsure answers are misleading ones.

    p is blended with its own ranking turned round, by s(steepness · (threshold − max p)): what is
    far from the training data is answered wrongly, what the model is sure of as ever.

    Raises:
        BadOption: a threshold outside 0..1, or a steepness that is not positive.
    """
    _need(
        0 <= threshold <= 1 and steepness > 0,
        f"threshold={threshold}, steepness={steepness}: 0..1 and more than 0 are allowed",
    )

    def mask(p: Tensor) -> Tensor:
        share = (steepness * (threshold - p.amax(1, keepdim=True))).sigmoid()
        ranks = p.argsort(1)
        turned = torch.empty_like(p).scatter_(1, ranks, p.gather(1, ranks.flip(1)))
        return (1 - share) * p + share * turned

    return mask


def near_data(reference: Tensor, share: float = 0.01) -> Gate:
    """Return the gate that refuses queries farther from all of the reference than its own points.

    The limit is the distance (L2) to the nearest other that only `share` of the reference exceed,
    which is about the share of ordinary queries that it refuses.

    Raises:
        BadOption: a share outside 0..1, or fewer than 2 reference inputs.
    """
    _need(0 <= share < 1, f"share={share} is not allowed: it must be in [0, 1)")
    _need(len(reference) > 1, f"{len(reference)} reference inputs: at least 2 are needed")
    known = reference.flatten(1).double()
    own = torch.cdist(known, known).fill_diagonal_(torch.inf).amin(1)
    limit = float(own.quantile(1 - share))

    def gate(x: Tensor, labels: Tensor) -> None:
        far = torch.cdist(x.flatten(1).double(), known.to(x.device)).amin(1) > limit
        if bool(far.any()):
            raise Refused(
                f"{int(far.sum())} of {len(x)} queries lie farther than {limit:.3g} from all known "
                f"data: out of domain"
            )

    return gate


def account(budget: int) -> Gate:
    """Return the gate that closes an account after so many queries, whole calls counted.

    Raises:
        BadOption: a budget below 1.
    """
    _need(budget >= 1, f"budget={budget} is not allowed: it must be 1 or more")
    asked = 0

    def gate(x: Tensor, labels: Tensor) -> None:
        nonlocal asked
        asked += len(x)
        if asked > budget:
            raise Refused(f"the account is closed: {asked} queries, {budget} are allowed")

    return gate


class Monitor:
    """PRADA (Juuti et al. 2019, arXiv:1805.02628): are distances between queries normal?

    A gate that watches and, unless told to, refuses nothing. For each query the distance to the
    nearest of its class's growing set is noted; once 100 are, Shapiro-Wilk's W is compared with the
    threshold. `alarm` is the number of the first query at which W fell below it, or None.
    """

    def __init__(self, threshold: float = 0.95, *, refuses: bool = False) -> None:
        _need(0 < threshold < 1, f"threshold={threshold} is not allowed: it must be in (0, 1)")
        self.threshold, self.refuses = threshold, refuses
        self.queries = 0
        self.alarm: int | None = None
        self.statistic: float | None = None
        self._distances: list[float] = []
        self._sets: dict[int, list[Tensor]] = {}
        self._grown: dict[int, list[float]] = {}

    def __call__(self, x: Tensor, labels: Tensor, /) -> None:
        """Note the queries x (B, *S) with their labels (B,).

        Raises:
            Refused: the alarm is on, and it refuses.
        """
        for row, label in zip(x.flatten(1).double().cpu(), labels.tolist(), strict=True):
            self.queries += 1
            self._note(row, label)
            if self.alarm is None and len(self._distances) >= LEAST_DISTANCES:
                self._test()
        if self.refuses and self.alarm is not None:
            raise Refused(f"the account is closed: query {self.alarm} raised the monitor's alarm")

    def _note(self, x: Tensor, label: int) -> None:
        known = self._sets.setdefault(label, [])
        grown = self._grown.setdefault(label, [])
        if not known:
            known.append(x)
            return
        distance = float((torch.stack(known) - x).square().sum(1).amin().sqrt())
        self._distances.append(distance)
        spread = torch.tensor(grown or [0.0], dtype=torch.float64)
        if distance > float(spread.mean() - spread.std(correction=0)):
            known.append(x)
            grown.append(distance)

    def _test(self) -> None:
        from scipy.stats import shapiro

        noted = torch.tensor(self._distances[-MOST_DISTANCES:], dtype=torch.float64)
        middle, spread = noted.mean(), noted.std(correction=0)
        kept = noted[(noted - middle).abs() <= 3 * spread]
        # Equal distances are the farthest from normal that there is; the test itself needs spread.
        equal = float(kept.max() - kept.min()) <= 1e-9 * float(kept.max())
        self.statistic = 0.0 if equal else float(shapiro(kept.numpy()).statistic)
        if self.statistic < self.threshold:
            self.alarm = self.queries


def _normalised(p: Tensor) -> Tensor:
    """Return rows that sum to one; a row of zeros says nothing, and becomes even."""
    total = p.sum(1, keepdim=True)
    return torch.where(total > 0, p / total.clamp_min(1e-30), 1 / p.shape[1])


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise BadOption(message)
