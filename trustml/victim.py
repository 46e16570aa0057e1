"""A model as a thief meets it: answers within its terms, every query checked, counted, budgeted."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import frozen, in_blocks
from trustml.asking import allowed
from trustml.contracts import Access, Classifier, Domain, Terms, Victim
from trustml.errors import BadInput, BudgetSpent, MethodFailed, NotApplicable

# One shape for all passes, so that an answer hardly depends on who shares the call (its rounding
# may, on a row's place in the block); small, because searches ask one row at a time.
BLOCK = 64

Gate = Callable[[Tensor, Tensor], None]
Mask = Callable[[Tensor], Tensor]
Listener = Callable[[Tensor, Tensor], None]


class Service:
    """A victim: it answers at one access level, in one precision, to the inputs that it takes."""

    def __init__(
        self,
        model: Classifier,
        domain: Domain,
        terms: Terms | None = None,
        *,
        gates: Sequence[Gate] = (),
        masks: Sequence[Mask] = (),
        speaks: Access = Access.LOGITS,
        padded: bool = True,
    ) -> None:
        """Serve `model`, which is copied where another precision is wanted, and never changed.

        Args:
            model: inputs (B, *S) → logits (B, K); log probabilities, or one-hot labels, will do
                where no more is answered.
            domain: shape, classes and bounds.
            terms: what is answered, to what, how often.
            gates: each sees a call's inputs and labels (B,), and may raise Refused.
            masks: each changes probabilities (B, K), in this order, before they are shown.
            speaks: what the model itself answers, at least what the terms say.
            padded: whether the last block of a call may be filled up with rows that nobody asked.

        Raises:
            BadInput: terms that cannot be kept.
        """
        self.domain, self.terms = domain, terms or Terms()
        _check_terms(self.terms, domain, masks)
        if self.terms.answers > speaks:
            raise BadInput(
                f"a victim that is told {speaks.name.lower()} cannot answer "
                f"{self.terms.answers.name.lower()}"
            )
        self._speaks, self._padded = speaks, padded
        self.dtype: torch.dtype = getattr(torch, self.terms.precision)
        self._model = _in_precision(model, self.dtype)
        self._gates, self._masks = tuple(gates), tuple(masks)
        self._count = [0]
        # Each is told the inputs and answers of every call, as they were shown.
        self.listeners: tuple[Listener, ...] = ()

    @property
    def queries(self) -> int:
        """How many inputs have been asked about so far."""
        return self._count[0]

    @property
    def left(self) -> float:
        """How many more may be asked about."""
        return float("inf") if self.terms.budget is None else self.terms.budget - self.queries

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the answers (B, K) to x (B, *S).

        Raises:
            BadInput: inputs that the terms do not allow.
            BudgetSpent: the call goes beyond the budget; nothing of it was answered or counted.
            Refused: a gate turned it away; it was counted.
            MethodFailed: the model answered NaN, infinity or another shape.
        """
        x = self._admitted(x)
        with torch.no_grad(), frozen(self._model):
            logits = self._logits(x)
        return self._shown(x, logits)

    def explain(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return the answers (B, K), and the gradient (B, *S) of the answered class's value.

        Raises:
            NotApplicable: the terms explain nothing.
            BadInput: inputs that the terms do not allow.
            BudgetSpent: the call goes beyond the budget; nothing of it was answered or counted.
            Refused: a gate turned it away; it was counted.
            MethodFailed: the model answered NaN, infinity or another shape.
        """
        if self.terms.explains == "nothing" or self._speaks < Access.LOGITS:
            raise NotApplicable("this victim explains nothing: its terms have no explanations")
        x = self._admitted(x).detach().requires_grad_(True)
        with torch.enable_grad(), frozen(self._model):
            logits = self._logits(x)
            values = logits if self.terms.explains == "logit" else logits.softmax(1)
            answered = values.gather(1, logits.argmax(1, keepdim=True))
            (gradient,) = torch.autograd.grad(answered.sum(), x)
        return self._shown(x.detach(), logits.detach()), gradient

    def at(self, access: Access, /) -> "Victim":
        """Return the victim seen at this level or its own, the lower; its count is shared."""
        other = copy.copy(self)
        words = {name: getattr(self.terms, name) for name in Terms.__dataclass_fields__}
        level = min(access, self.terms.answers)
        kept = words["decimals"] if level in (Access.TOP1, Access.PROBABILITIES) else None
        other.terms = Terms(**words | {"answers": level, "decimals": kept})
        return other

    def _admitted(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.domain.shape:
            raise BadInput(
                f"a query of shape {tuple(x.shape[1:])}; this victim takes {self.domain.shape}"
            )
        if x.dtype != self.dtype and not (x.dtype, self.dtype) == (torch.float32, torch.float64):
            raise BadInput(
                f"queries of {x.dtype} to a victim of {self.dtype}: round them yourself, "
                f"by x.to(victim.dtype), so that you know what was asked"
            )
        x = x.detach().to(self.dtype)
        x = allowed(x, self.domain, self.terms.inputs)
        if len(x) > self.left:
            raise BudgetSpent(
                f"the budget is {self.terms.budget} queries; {self.queries} were asked and "
                f"{len(x)} more are wanted"
            )
        self._count[0] += len(x)
        return x

    def _logits(self, x: Tensor) -> Tensor:
        logits = self._said(x) if len(x) else x.new_zeros(0, self.domain.classes)
        if logits.shape[1] != self.domain.classes:
            raise MethodFailed(
                f"the victim answered {logits.shape[1]} values a query; "
                f"it has {self.domain.classes} classes"
            )
        if not bool(torch.isfinite(logits).all()):
            row = int((~torch.isfinite(logits)).any(1).nonzero()[0])
            number = self.queries - len(x) + row + 1
            raise MethodFailed(f"the victim's answer to query {number} is not finite")
        return logits

    def _said(self, x: Tensor) -> Tensor:
        said: list[Tensor] = []
        try:
            for part in x.split(BLOCK):
                said.append(in_blocks(self._model, part, BLOCK if self._padded else len(part)))
        except Exception:
            if said and not self._gates:  # the blocks before were answered: let it be known
                self._tell(x.detach()[: BLOCK * len(said)], self._masked(torch.cat(said).detach()))
            raise
        return torch.cat(said)

    def _shown(self, x: Tensor, logits: Tensor) -> Tensor:
        for gate in self._gates:
            gate(x, logits.argmax(1))
        shown = self._masked(logits)
        self._tell(x, shown)
        return shown

    def _tell(self, x: Tensor, shown: Tensor) -> None:
        for listener in self.listeners:
            listener(x, shown)

    def _masked(self, logits: Tensor) -> Tensor:
        if self.terms.answers == Access.LOGITS:
            return logits
        shown = logits.softmax(1) if self._speaks == Access.LOGITS else logits
        for mask in self._masks:
            shown = mask(shown)
        # Without a mask the label is the logits': a softmax can round two of them to one value.
        top = (shown if self._masks else logits).argmax(1, keepdim=True)
        if self.terms.decimals is not None:
            shown = shown.round(decimals=self.terms.decimals)
        if self.terms.answers == Access.PROBABILITIES:
            return shown
        value = torch.ones_like(shown) if self.terms.answers == Access.LABELS else shown
        return torch.zeros_like(shown).scatter_(1, top, value.gather(1, top))


def least_access(victim: Victim, needs: Access, method: str) -> None:
    """Return quietly where the victim shows what the method needs; GRADIENTS means explanations.

    Raises:
        NotApplicable: it shows less.
    """
    if needs == Access.GRADIENTS:
        if victim.terms.explains == "nothing":
            raise NotApplicable(f"{method} needs explanations, and this victim gives none")
    elif victim.terms.answers < needs:
        raise NotApplicable(
            f"{method} needs {needs.name.lower()} or more, and this victim answers "
            f"{victim.terms.answers.name.lower()}"
        )


def least_budget(victim: Victim, minimum: int, method: str) -> None:
    """Return quietly where so many queries are left.

    Raises:
        NotApplicable: they are fewer; the message says how many the method needs.
    """
    if victim.left < minimum:
        raise NotApplicable(
            f"{method} needs at least {minimum} queries for {victim.domain.classes} classes and "
            f"inputs {victim.domain.shape}, and {victim.left:.0f} are left: raise the budget"
        )


def _check_terms(terms: Terms, domain: Domain, masks: Sequence[Mask]) -> None:
    if terms.answers == Access.GRADIENTS:
        raise BadInput("a victim answers logits at most; for gradients set explains in its terms")
    if masks and terms.answers == Access.LOGITS:
        raise BadInput("a mask changes probabilities: let the victim answer those, not logits")
    if terms.decimals is not None:
        if terms.answers not in (Access.TOP1, Access.PROBABILITIES):
            raise BadInput(f"decimals={terms.decimals} rounds probabilities, and none are answered")
        # Below this a top probability of 1/K could be shown as 0, and its label would be lost.
        if terms.decimals < 1 or 10.0**terms.decimals < domain.classes / 2:
            raise BadInput(
                f"decimals={terms.decimals} is not allowed: {domain.classes} classes need "
                f"10^decimals ≥ {domain.classes / 2:g}, and decimals ≥ 1"
            )
    if terms.budget is not None and terms.budget < 1:
        raise BadInput(f"budget={terms.budget} is not allowed: it must be 1 or more, or none")


def _in_precision(model: Classifier, dtype: torch.dtype) -> Classifier:
    """Return the model computing in `dtype`; a callable that is no module is cast around."""
    if not isinstance(model, nn.Module):
        return _Cast(model, dtype)
    if all(part.dtype == dtype for part in model.parameters()):
        return model
    return copy.deepcopy(model).to(dtype)


class _Cast:
    """A callable whose answers are given in `dtype`."""

    def __init__(self, model: Classifier, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype

    def __call__(self, x: Tensor, /) -> Tensor:
        answer: Any = self._model(x)
        return answer.to(self._dtype) if isinstance(answer, Tensor) else answer

    def features(self, x: Tensor, /) -> Tensor:
        return self._model.features(x)
