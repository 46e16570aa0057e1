"""Anything that answers inputs as a victim: an endpoint, an exported graph, a plain function."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trustml.contracts import Access, Domain, Terms
from trustml.errors import BadInput, MethodFailed, NotApplicable
from trustml.victim import Gate, Mask, Service


def oracle(
    answer: Callable[[Tensor], Any],
    domain: Domain,
    terms: Terms | None = None,
    *,
    gates: Sequence[Gate] = (),
    masks: Sequence[Mask] = (),
) -> Service:
    """Return the victim behind `answer`, which says itself what its terms state, row for row.

    Nothing is computed from its answers but lower levels, no row is added to a call, and each row
    is counted, so a budget holds for what is really asked.

    Args:
        answer: inputs (B, *S) in the terms' precision → logits or probabilities (B, K); top-1 as
            (B, K) with 0 elsewhere, or as a pair of labels (B,) and probabilities (B,); labels (B,)
            or one-hot (B, K). Tensors, arrays and lists will do.
        domain: shape, classes and bounds of what it takes.
        terms: what it answers, to what, how often; `explains` must be "nothing".
        gates: each sees a call's inputs and labels (B,), and may raise Refused.
        masks: each changes probabilities (B, K), in this order, before they are shown.

    Raises:
        BadInput: terms that cannot be kept.
    """
    terms = terms or Terms()
    if terms.explains != "nothing":
        raise BadInput(f"explains={terms.explains}: a deployed model gives no gradients")
    speaker = _Speaker(answer, domain.classes, terms.answers)
    return Service(
        speaker, domain, terms, gates=gates, masks=masks, speaks=terms.answers, padded=False
    )


class _Speaker:
    """A callable whose answers become (B, K) at its own level."""

    def __init__(self, answer: Callable[[Tensor], Any], classes: int, level: Access) -> None:
        self._answer, self._classes, self._level = answer, classes, level

    def __call__(self, x: Tensor, /) -> Tensor:
        said = self._answer(x)
        if self._level == Access.TOP1 and isinstance(said, tuple) and len(said) == 2:
            labels, values = (self._one_a_row(part, len(x)) for part in said)
            return self._one_hot(labels) * values.double()[:, None]
        table = _tensor(said)
        if self._level == Access.LABELS and table.dim() == 1:
            return self._one_hot(self._one_a_row(table, len(x)))
        if tuple(table.shape) != (len(x), self._classes):
            raise MethodFailed(
                f"the victim answered {tuple(table.shape)} to {len(x)} queries, where "
                f"({len(x)}, {self._classes}) was stated"
            )
        table = table if table.is_floating_point() else table.double()
        if self._level < Access.LOGITS:
            self._check_shares(table)
        return table

    def features(self, x: Tensor, /) -> Tensor:
        raise NotApplicable("a deployed model shows no features")

    def _one_a_row(self, part: Any, count: int) -> Tensor:
        values = _tensor(part)
        if tuple(values.shape) != (count,):
            raise MethodFailed(
                f"the victim answered {tuple(values.shape)} to {count} queries: one label a query, "
                f"({count},), was stated"
            )
        return values

    def _one_hot(self, labels: Tensor) -> Tensor:
        whole = labels.long()
        if bool(((whole != labels) | (whole < 0) | (whole >= self._classes)).any()):
            raise MethodFailed(
                f"the victim answered labels from {labels.min().item():g} to "
                f"{labels.max().item():g}; {self._classes} classes are 0 to {self._classes - 1}"
            )
        return one_hot(whole, self._classes).double()

    def _check_shares(self, table: Tensor) -> None:
        outside = ((table < 0) | (table > 1)).any(1) & torch.isfinite(table).all(1)
        if bool(outside.any()):
            row = table[int(outside.nonzero()[0])]
            raise MethodFailed(
                f"the victim answered values from {float(row.min()):g} to {float(row.max()):g} "
                f"where {self._level.name.lower()} were stated: they look like logits"
            )
        if self._level < Access.PROBABILITIES and bool(((table != 0).sum(1) > 1).any()):
            raise MethodFailed(
                f"the victim answered several values a query where {self._level.name.lower()} were "
                f"stated: state probabilities"
            )


def _tensor(said: Any) -> Tensor:
    """Return it as a tensor on the CPU.

    Raises:
        MethodFailed: it is none, and cannot be made one.
    """
    try:
        found = said if isinstance(said, Tensor) else torch.as_tensor(said)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MethodFailed(f"the victim answered a {type(said).__name__}: {error}") from error
    return found.detach().cpu()
