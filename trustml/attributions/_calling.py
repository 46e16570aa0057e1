"""One way to call captum: the model frozen, its remarks silenced, randomness given back."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.contracts import Classifier
from trustml.errors import BadInput, BadOption, NotApplicable

# Rows that one forward pass takes at most, so that a hundred steps of a batch fit in memory.
MOST_ROWS = 4096


@contextmanager
def attributing(name: str, model: Classifier, x: Tensor, target: Tensor) -> Iterator[Tensor]:
    """Yield a fresh leaf like x (B, *S) to attribute to, with the model frozen meanwhile.

    Raises:
        BadInput: targets that are not one class a row.
        NotApplicable: the model gives no gradient, and one was asked for.
    """
    whole = target.dtype in (torch.int64, torch.int32)
    if target.shape != x.shape[:1] or not whole or (len(target) and int(target.min()) < 0):
        raise BadInput(
            f"{name}: targets {tuple(target.shape)} {target.dtype} do not fit inputs "
            f"{tuple(x.shape)}: give one class number a row, (B,) int64"
        )
    if not len(x):
        raise BadInput(f"{name}: there are no inputs to explain")
    with frozen(model), torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting (forward|backward)")
        try:
            yield x.detach().clone().requires_grad_()
        except (IndexError, RuntimeError) as error:
            if "out of bounds" in str(error) and "dimension 1" in str(error):
                raise BadInput(f"{name}: the model has no class {int(target.max())}") from error
            if "does not require grad" in str(error) or "not have been used" in str(error):
                raise NotApplicable(
                    f"{name} needs gradients, and the model's answers have none; "
                    f"occlusion, shapley_sampling and kernel_shap need answers only"
                ) from error
            raise


@contextmanager
def seeded(seed: int, x: Tensor) -> Iterator[None]:
    """Draw from `seed` inside the block and give the global generators back as they were."""
    devices = [x.device] if x.device.type == "cuda" else []
    numpy_state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        np.random.set_state(numpy_state)


def one_by_one(
    explain: Callable[[Classifier, Tensor, Tensor], Tensor],
    model: Classifier,
    x: Tensor,
    target: Tensor,
    *,
    seed: int,
) -> Tensor:
    """Return explain(model, row, its target) of every row, each from the same random numbers.

    captum draws for a whole batch at once; so a sample's map would depend on who shares it.
    """
    maps = []
    for row in range(len(x)):
        here = slice(row, row + 1)
        mine = at(model, torch.tensor([row], device=x.device))
        with seeded(seed, x):
            maps.append(explain(mine, x[here].detach().clone().requires_grad_(), target[here]))
    return torch.cat(maps).detach().to(x.dtype)


def at_least(name: str, **values: tuple[float, float]) -> None:
    """Check options given as name=(value, least).

    Raises:
        BadOption: one is below what it must be.
    """
    for option, (value, least) in values.items():
        if not value >= least:
            raise BadOption(f"{name}: {option}={value} is not allowed: it must be {least} or more")
