"""A model as a method may see it: no more than its access level, every pass counted and budgeted.

The model is fed in blocks of known sizes (the last one padded), because a matrix product's rounding
can depend on its shape: so an answer does not depend on who shares the batch. There is one size, or
as many as have been seen to give the same bits.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Classifier
from trustml.convolutions import QuickGradients, pays
from trustml.errors import MethodFailed, NotApplicable
from trustml.passes import Ledger

# On a CPU small blocks lose nothing and pad little; a GPU wants more at once.
_CPU_ROWS, _GPU_ROWS = 64, 256
# Rows of a split that are read at once: a multiple of either.
READ_ROWS = 2048
# What one more call of a model costs, in rows: whether 72 are cut into 64 and 8, or padded to 96.
_CALL_ROWS = 16

Blocks = tuple[int, ...]


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
        block: int | Blocks | None = None,
        readings: int = 1,
    ) -> None:
        """Wrap `model` for one batch of `samples`.

        Args:
            model: what answers.
            access: what is shown of its answers.
            samples: how many there are in the batch.
            budget: forward passes a sample at most.
            block: rows that the model is fed at once, or sizes that give the same bits.
            readings: how often a model that answers at random is asked at each call, which gives
                its mean probabilities.
        """
        self.access = access
        self._model = model
        self._ledger = Ledger(samples, budget)
        self._block = block
        self.readings = readings
        self._quick = access == Access.GRADIENTS and pays(model)
        self._rows: Tensor | None = None
        self._weight: Tensor | None = None

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the answers (B, K) to x (B, *S).

        Raises:
            BudgetSpent: a sample would be asked about more often than its budget.
            MethodFailed: the rows of x belong to no known samples while a budget is in force.
        """
        if self.readings > 1:
            # The mean of probabilities, not of logits: what the answers are on average.
            said = [self._asked(x).log_softmax(1) for _ in range(self.readings)]
            answer = torch.stack(said).logsumexp(0) - math.log(len(said))
        else:
            answer = self._asked(x)
        return answer if self.access == Access.GRADIENTS else _limit(answer, self.access)

    def single(self) -> "Handed":
        """Return the model as it answers one time; counts go to the same ledger."""
        other = Handed.__new__(Handed)
        other.__dict__.update(self.__dict__)
        other.readings = 1
        return other

    def _asked(self, x: Tensor) -> Tensor:
        """Return one reading of the logits (B, K), with a graph where gradients are shown."""
        self._ledger.forward(len(x), self._rows, self._weight)
        if self.access < Access.GRADIENTS:
            with torch.no_grad():
                return in_blocks(self._model, x, self._block)
        return self._counted(self._graphed(x), x)

    def _counted(self, answer: Tensor, x: Tensor) -> Tensor:
        """Return the answer, the passes back from which are counted."""
        if answer.grad_fn is not None and x.requires_grad:
            count, rows, weight, ledger = len(x), self._rows, self._weight, self._ledger
            answer.grad_fn.register_prehook(lambda _: ledger.backward(count, rows, weight))
        return answer

    def once(self, x: Tensor, /) -> Tensor:
        """Return the answers (B, K) to points whose gradient is then taken just once.

        Both passes are counted now, which saves the hook that would count the second.
        """
        if self.access < Access.GRADIENTS or self.readings > 1:
            return self(x)
        self._ledger.forward(len(x), self._rows, self._weight)
        replay = getattr(self._model, "once", None)
        if replay is not None and len(self.cut(x)) == 1:
            answer = in_blocks(replay, x, self._block)
        else:
            answer = self._graphed(x)
        if answer.grad_fn is not None:
            self._ledger.backward(len(x), self._rows, self._weight)
        return answer

    def cut(self, x: Tensor, /) -> Blocks:
        """Return the sizes of the blocks in which x is answered, the last perhaps too long."""
        return _cut(len(x), _sizes(self._block, x.device))

    def filling(self, count: int, device: torch.device) -> int:
        """Return how many rows fill the fewest blocks that hold `count` rows."""
        sizes = _sizes(self._block, device)
        whole, rest = divmod(count, sizes[-1])
        return whole * sizes[-1] + next(size for size in (0, *sizes) if size >= rest)

    def features(self, x: Tensor, /) -> Tensor:
        """Return the features (B, D) that the last layer reads.

        Raises:
            NotApplicable: the access level does not show the inside of the model.
        """
        if self.access < Access.GRADIENTS:
            raise NotApplicable(f"features are not to be seen with access to {self.access.name}")
        self._ledger.forward(len(x), self._rows, self._weight)
        return self._counted(in_blocks(self._model.features, x, self._block), x)

    def at(self, rows: Tensor, /) -> "Handed":
        """Return the model for calls about just these samples; counts go to the same ledger."""
        other = Handed.__new__(Handed)
        other.__dict__.update(self.__dict__)
        other._rows = rows if self._rows is None else self._rows[rows]
        other._weight = None if self._weight is None else self._weight[rows]
        return other

    def filled(self, rows: Tensor, left: Tensor, /) -> "Handed":
        """Return the model for calls about these samples, of which only those at `left` count.

        The others fill up a block that would be padded without them.
        """
        other = self.at(rows)
        weight = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        other._weight = weight.index_fill_(0, left, 1.0)
        return other

    def _graphed(self, x: Tensor) -> Tensor:
        quick = self._quick and x.requires_grad and x.device.type == "cpu"
        with QuickGradients() if quick else nullcontext():
            return in_blocks(self._model, x, self._block)

    @property
    def forwards(self) -> Tensor:
        """Forward passes so far, a sample (B,)."""
        return self._ledger.forwards_now()

    @property
    def backwards(self) -> Tensor:
        """Backward passes so far, a sample (B,)."""
        return self._ledger.backwards_now()


def once(model: Classifier, x: Tensor) -> Tensor:
    """Return the answers (B, K) to points whose gradient is then taken just once."""
    return model.once(x) if isinstance(model, Handed) else model(x)


def readings(model: Classifier) -> int:
    """Return how often the model is to be asked for one answer, because it answers at random."""
    return model.readings if isinstance(model, Handed) else 1


def at(model: Classifier, rows: Tensor) -> Classifier:
    """Return the model for calls about these rows: a Handed one counts, any other is what it is."""
    return model.at(rows) if isinstance(model, Handed) else model


def block_rows(device: torch.device) -> int:
    """Return how many rows a block has on the device."""
    return _CPU_ROWS if device.type == "cpu" else _GPU_ROWS


def in_blocks(
    model: Callable[[Tensor], Tensor], x: Tensor, block: int | Blocks | None = None
) -> Tensor:
    """Return model(x) (B, …), a block of rows at a time; the last row fills the last block."""
    count, cut = len(x), _cut(len(x), _sizes(block, x.device))
    if cut == (count,) or count == 0:
        return _answer(model, x)
    lacking = sum(cut) - count
    if lacking:
        x = torch.cat([x, x[-1:].detach().expand(lacking, *x.shape[1:])])
    if len(cut) == 1:
        return _answer(model, x)[:count]
    return torch.cat([_answer(model, part) for part in x.split(cut)])[:count]


def _sizes(block: int | Blocks | None, device: torch.device) -> Blocks:
    if isinstance(block, tuple):
        return block
    return (block or block_rows(device),)


@lru_cache(maxsize=4096)
def _cut(count: int, sizes: Blocks) -> Blocks:
    """Return blocks of these rising sizes that hold `count` rows, the cheapest way."""
    whole, rest = divmod(count, sizes[-1])
    found = (sizes[-1],) * whole
    if not rest:
        return found
    above = next(size for size in sizes if size >= rest)
    below = max((size for size in sizes if size <= rest), default=0)
    if not below or above == rest:
        return (*found, above)
    split = (below, *_cut(rest - below, sizes))
    return (*found, *min((above,), split, key=lambda cut: sum(cut) + _CALL_ROWS * len(cut)))


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Put modules into evaluation mode and parameters out of the graph; restore each after."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    wanted = [parameter.requires_grad for parameter in parameters]
    try:
        # Only what is to change: setting an attribute of a module costs more than reading it.
        for module, mode in zip(modules, modes, strict=True):
            if mode:
                module.training = False
        for parameter, want in zip(parameters, wanted, strict=True):
            if want:
                parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            if module.training != mode:
                module.training = mode
        for parameter, want in zip(parameters, wanted, strict=True):
            if parameter.requires_grad != want:
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
