"""Which sizes of blocks a model may be fed in: those in which its answers have the same bits."""

import time
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from trustml.access import Blocks, Handed, block_rows, frozen
from trustml.contracts import Access, Classifier
from trustml.deployment import is_remote
from trustml.training import seeded

# How often a model is asked the same, and what rounding may change between two times.
_TIMES, _CLOSE, _ROWS = 4, 1e-5, 64
_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
# Multiples of the usual size (on a CPU 8 to 256 rows), those first that are of most use.
_MULTIPLES = (4, 2, 0.5, 0.25, 0.125, 3, 1.5, 0.75, 0.375, 3.5, 2.5, 1.75, 1.25, 3.75, 3.25)
# On a CPU each row costs: sizes (56, 40, 28, 20, 12) between those, so that little is padded.
_BETWEEN = (0.875, 0.625, 0.4375, 0.3125, 0.1875)


def varies(module: nn.Module, x: Tensor) -> bool:
    """Return whether equal questions x (B, *S) get other answers; each module is asked once.

    A served model is not asked: questions may cost. One that draws the same for equal inputs, or
    for a seed of its own, does not vary.
    """
    if module not in _known:
        _known[module] = not is_remote(module) and bool(len(x)) and _varies(module, x[:_ROWS])
    return _known[module]


def fitting_blocks(module: nn.Module, x: Tensor, *, seconds: float = 2.0) -> Blocks | None:
    """Return the sizes of blocks in which rows of x (B, *S) are answered with the same bits.

    The usual size is always among them. Logits and input gradients are read in blocks of every
    other size, turned round, and must equal those of the usual one; a size that could not be read
    within the time is left out, which changes speed, never an answer. None if even the usual block
    gives other bits for another place in it, or for the same question asked again.
    """
    usual = block_rows(x.device)
    if is_remote(module):
        return (usual,)  # a server batches as it likes, and each question may cost
    most = round(usual * max(_MULTIPLES))
    x = x[torch.arange(most, device=x.device) % len(x)]
    began, fitting = time.process_time(), [usual]
    with frozen(module):
        truth = _answers(module, x[:usual], usual)
        if not _same(truth, _answers(module, x[:usual].flip(0), usual)):
            return None
        row = (time.process_time() - began) / (2 * usual)
        between = _BETWEEN if x.device.type == "cpu" else ()
        for size in (round(usual * multiple) for multiple in (*_MULTIPLES, *between)):
            lacking = max(size - len(truth[0]), 0)
            if time.process_time() - began + row * (size + lacking) > seconds:
                continue
            if lacking:
                more = _answers(module, x[len(truth[0]) : size], usual)
                truth = tuple(torch.cat(pair) for pair in zip(truth, more, strict=True))
            try:
                turned = _answers(module, x[:size].flip(0), size)
            except (RuntimeError, MemoryError):  # more rows than the device has room for
                continue
            if _same(tuple(part[:size] for part in truth), turned):
                fitting.append(size)
    return tuple(sorted(fitting))


def _varies(module: nn.Module, x: Tensor) -> bool:
    with frozen(module), torch.no_grad(), seeded(0):
        first, *others = [module(x) for _ in range(_TIMES)]
    size = _CLOSE * (1 + first.abs().amax(1))
    return any(bool(((first - other).abs().amax(1) > size).any()) for other in others)


def _same(truth: tuple[Tensor, ...], turned: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b.flip(0)) for a, b in zip(truth, turned, strict=True))


def _answers(module: nn.Module, x: Tensor, size: int) -> tuple[Tensor, ...]:
    """Return logits and gradients as attacks read them, in blocks of one size."""
    x = x.clone().requires_grad_()
    model = cast(Classifier, module)
    logits = Handed(model, Access.GRADIENTS, len(x), block=size)(x)
    if not logits.requires_grad:
        return (logits,)
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), x, allow_unused=True)
    return (logits.detach(),) if gradient is None else (logits.detach(), gradient)
