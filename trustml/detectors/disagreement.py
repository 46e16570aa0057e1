"""Disagreement between the networks of an ensemble, or other draws."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, draws_of
from trustml.registry import detector


@detector(
    source="Malinin & Gales 2021, arXiv:2002.07650 (pairwise KL); Lakshminarayanan et al. 2017, "
    "arXiv:1612.01474 (ensembles)",
    reads=("draws",),
)
def disagreement(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    measure: Literal["divergence", "votes"] = "divergence",
) -> Scorer:
    """Score by how far two different draws are apart on average, (B,).

    Args:
        measure: divergence is the KL of one's probabilities from another's, in nats; votes is the
            share of pairs that name different classes.

    Raises:
        NotApplicable: fewer than two draws.
        BadInput: draws that are no numbers.
    """
    apart = _divergence if measure == "divergence" else _votes

    def score(outputs: Outputs) -> Tensor:
        return apart(draws_of(outputs, least=2)).clamp_min(0)

    return score


def _divergence(draws: Tensor) -> Tensor:
    """Return the mean KL over ordered pairs; pairs of one draw with itself add nothing."""
    count, logs = len(draws), log_softmax(draws, dim=2)
    own = (logs.exp() * logs).sum(2).mean(0)
    crossed = (logs.exp().mean(0) * logs.mean(0)).sum(1)
    return (own - crossed) * (count / (count - 1))


def _votes(draws: Tensor) -> Tensor:
    count = len(draws)
    votes = one_hot(draws.argmax(2), draws.shape[2]).sum(0).to(draws)
    return 1 - (votes * (votes - 1)).sum(1) / (count * (count - 1))
