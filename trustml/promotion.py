"""May a retrained model take the place of the one in service? A gate on each class's recall."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.bayes.conjugate import Beta, beta_binomial
from trustml.contracts import Score, Split
from trustml.errors import BadInput, BadOption, BrokenClaim
from trustml.metrics import accuracy, proportion
from trustml.splits import data_hash

# Points of the old recall's posterior at which the new one's is read.
POINTS = 200


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class's recall before and after, and the chance that it fell by more than is allowed.

    Args:
        label: the class.
        count: held-out samples of it.
        before: recall of the model in service.
        after: recall of the new model.
        chance: posterior probability that the recall fell by more than is allowed.
        refused: whether that is too likely.
    """

    label: int
    count: int
    before: Score
    after: Score
    chance: float
    refused: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Each class's change; the model is promoted where none is refused."""

    changes: tuple[ClassChange, ...]

    @property
    def promoted(self) -> bool:
        """Whether the new model may serve."""
        return not any(change.refused for change in self.changes)


def promotion(
    before: Tensor, after: Tensor, y: Tensor, *, allowed: float = 0.05, doubt: float = 0.5
) -> Verdict:
    """Return the verdict on a new model, from logits (B, K) of both on held-out samples (B,).

    Recalls have the Beta posterior of a uniform prior, and the two are taken as independent, which
    errs on the side of doubt. The gate sees clean samples alone: a backdoor that changes nothing
    without its trigger, such as that of BadNets, passes.

    Args:
        before: logits of the model in service.
        after: logits of the model that shall take its place.
        y: true classes.
        allowed: how much a class's recall may fall.
        doubt: a class is refused where the chance that it fell by more is this or above.

    Raises:
        BadInput: shapes that do not fit, or a class without a sample.
        BadOption: `allowed` outside [0, 1) or `doubt` outside (0, 1).
    """
    if not (0 <= allowed < 1 and 0 < doubt < 1):
        raise BadOption(
            f"allowed={allowed:g} and doubt={doubt:g}: allowed is in [0, 1), doubt in (0, 1)"
        )
    if before.shape != after.shape:
        raise BadInput(f"logits {tuple(before.shape)} and {tuple(after.shape)} of the same samples")
    for logits in (before, after):
        accuracy(logits, y)  # for its checks
    changes = []
    for label in range(before.shape[1]):
        rows = y == label
        count = int(rows.sum())
        if not count:
            raise BadInput(f"the held-out set has no sample of class {label}: nothing to judge by")
        right = [int((logits[rows].argmax(1) == label).sum()) for logits in (before, after)]
        chance = _fell(right[0], right[1], count, allowed)
        recalls = (proportion(right[0], count), proportion(right[1], count))
        changes.append(ClassChange(label, count, *recalls, chance, chance >= doubt))
    return Verdict(tuple(changes))


def check_seal(held_out: Split, sealed: str) -> None:
    """Refuse a held-out set that is not the sealed one.

    Raises:
        BrokenClaim: its hash is another.
    """
    found = data_hash(held_out)
    if found != sealed:
        raise BrokenClaim(f"the held-out set is not the sealed one: {found}, and not {sealed}")


def _fell(before: int, after: int, count: int, allowed: float) -> float:
    """Return the posterior chance that the recall fell by more than is allowed."""
    from scipy.special import betainc, betaincinv

    old, new = (beta_binomial(Beta(1, 1), right, count) for right in (before, after))
    middles = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    recall = betaincinv(old.alpha, old.beta, middles.numpy())
    return float(betainc(new.alpha, new.beta, (recall - allowed).clip(0, 1)).mean())
