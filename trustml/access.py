"""A model as a method may see it: no more than its access level, every pass counted and budgeted.

The model is fed in blocks of one fixed shape (the last one padded), because a matrix product's
rounding can depend on its shape: so an answer does not depend on who shares the batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Classifier
from trustml.errors import BudgetSpent, MethodFailed, NotApplicable

# On a CPU small blocks lose nothing and pad little; a GPU wants more at once.
_CPU_ROWS, _GPU_ROWS = 64, 256
# Rows of a split that are read at once: a multiple of either.
READ_ROWS = 2048


class Handed:
    """A model handed to a method, which answers (B, K) at the method's access level.

    GRADIENTS logits, LOGITS logits without a graph, PROBABILITIES their softmax, TOP1 the highest
    probability in its place and 0 elsewhere, LABELS one-hot. The arg max is always the label.

    A call with one row a sample (or a whole multiple, sample after sample, then again) is counted
    to those samples. A method that calls with other rows says which: `model.at(rows)(x[rows])`.
    """

    def __init__(
        self,
        model: Classifier,
        access: Access,
        samples: int,
        *,
        budget: int | None = None,
        block: int | None = None,
    ) -> None:
        """Wrap `model` for one batch of `samples`; `budget` is forward passes a sample at most."""
        self.access = access
        self._model = model
        self._ledger = _Ledger(samples, budget)
        self._block = block
        self._rows: Tensor | None = None

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the answers (B, K) to x (B, *S).

        Raises:
            BudgetSpent: a sample would be asked about more often than its budget.
            MethodFailed: the rows of x belong to no known samples while a budget is in force.
        """
        self._ledger.forward(len(x), self._rows)
        if self.access < Access.GRADIENTS:
            with torch.no_grad():
                return _limit(in_blocks(self._model, x, self._block), self.access)
        if x.requires_grad and torch.is_grad_enabled():
            x = _CountBackward.apply(x, self._ledger, self._rows)
        return in_blocks(self._model, x, self._block)

    def features(self, x: Tensor, /) -> Tensor:
        """Return the features (B, D) that the last layer reads.

        Raises:
            NotApplicable: the access level does not show the inside of the model.
        """
        if self.access < Access.GRADIENTS:
            raise NotApplicable(f"features are not to be seen with access to {self.access.name}")
        self._ledger.forward(len(x), self._rows)
        return in_blocks(self._model.features, x, self._block)

    def at(self, rows: Tensor, /) -> "Handed":
        """Return the model for calls about just these samples; counts go to the same ledger."""
        other = Handed.__new__(Handed)
        other.__dict__.update(self.__dict__)
        other._rows = rows if self._rows is None else self._rows[rows]
        return other

    @property
    def forwards(self) -> Tensor:
        """Forward passes so far, a sample (B,)."""
        return self._ledger.forwards_now()

    @property
    def backwards(self) -> Tensor:
        """Backward passes so far, a sample (B,)."""
        return self._ledger.backwards_now()


def at(model: Classifier, rows: Tensor) -> Classifier:
    """Return the model for calls about these rows: a Handed one counts, any other is what it is."""
    return model.at(rows) if isinstance(model, Handed) else model


def block_rows(device: torch.device) -> int:
    """Return how many rows a block has on the device."""
    return _CPU_ROWS if device.type == "cpu" else _GPU_ROWS


def in_blocks(model: Callable[[Tensor], Tensor], x: Tensor, block: int | None = None) -> Tensor:
    """Return model(x) (B, …), a block of rows at a time; the last row fills the last block."""
    count, block = len(x), block or block_rows(x.device)
    if count == block or count == 0:
        return _answer(model, x)
    lacking = -count % block
    if lacking:
        x = torch.cat([x, x[-1:].detach().expand(lacking, *x.shape[1:])])
    return torch.cat([_answer(model, part) for part in x.split(block)])[:count]


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Put modules into evaluation mode and parameters out of the graph; restore each after."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    wanted = [parameter.requires_grad for parameter in parameters]
    try:
        for module in modules:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for parameter, want in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(want)


def _answer(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    answer = model(x)
    if not isinstance(answer, Tensor) or answer.dim() != 2 or len(answer) != len(x):
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise MethodFailed(f"the model answered {shape} to {len(x)} inputs; expected ({len(x)}, K)")
    return answer


def _limit(logits: Tensor, access: Access) -> Tensor:
    if access == Access.LOGITS:
        return logits
    probabilities = logits.softmax(1)
    if access == Access.PROBABILITIES:
        return probabilities
    # The label is read from the logits: a softmax can round two of them to one value.
    top = logits.argmax(1, keepdim=True)
    shown = (
        probabilities.gather(1, top)
        if access == Access.TOP1
        else torch.ones_like(top, dtype=logits.dtype)
    )
    return torch.zeros_like(probabilities).scatter_(1, top, shown)


class _Ledger:
    """Counts of passes for each sample; whole-batch calls stay on the host and cost nothing."""

    def __init__(self, samples: int, budget: int | None) -> None:
        self.samples, self.budget = samples, budget
        self.even = {"forward": 0.0, "backward": 0.0}
        self.uneven = {way: torch.zeros(samples, dtype=torch.float64) for way in self.even}

    def forward(self, count: int, rows: Tensor | None) -> None:
        self._charge("forward", count, rows)
        if self.budget is not None and float(self.forwards_now().max()) > self.budget:
            raise BudgetSpent(f"the budget is {self.budget} queries a sample; one more was asked")

    def backward(self, count: int, rows: Tensor | None) -> None:
        self._charge("backward", count, rows)

    def forwards_now(self) -> Tensor:
        return self.uneven["forward"] + self.even["forward"]

    def backwards_now(self) -> Tensor:
        return self.uneven["backward"] + self.even["backward"]

    def _charge(self, way: str, count: int, rows: Tensor | None) -> None:
        if rows is None and count % self.samples == 0:
            self.even[way] += count // self.samples
        elif rows is not None and count % len(rows) == 0:
            counts = self.uneven[way] = self.uneven[way].to(rows.device)
            each = torch.full(
                rows.shape, count // len(rows), dtype=counts.dtype, device=rows.device
            )
            counts.index_add_(0, rows, each)
        elif self.budget is None:
            # Nobody said whose rows these are: the total stays right, the shares are even.
            self.even[way] += count / self.samples
        else:
            raise MethodFailed(
                f"{count} rows for {self.samples} samples cannot be counted against the "
                f"query budget; call model.at(rows)(x[rows]) to say whose rows they are"
            )


class _CountBackward(torch.autograd.Function):
    """The identity, whose backward pass is counted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ledger: _Ledger, rows: Tensor | None) -> Tensor:
        ctx.ledger, ctx.rows = ledger, rows
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        ctx.ledger.backward(len(gradient), ctx.rows)
        return gradient, None, None
