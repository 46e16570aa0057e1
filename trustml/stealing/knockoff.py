"""A copy learnt from what the victim answers to inputs drawn at random."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Theft, Victim
from trustml.errors import BadOption
from trustml.registry import stealer
from trustml.stealing._distillation import need_pool, notebook
from trustml.stealing._synthetic import shifted, uniform


@stealer(source="Orekondy et al. 2019, CVPR (arXiv:1812.02766), section 4.1", needs=Access.LABELS)
def knockoff(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    queries: int = 1000,
    inputs: Literal["pool", "shifted", "noise"] = "pool",
    epochs: int = 60,
    snapshots: int = 4,
) -> Theft:
    """Ask about random inputs and train a fresh network on the answers.

    Args:
        queries: as many as the budget and, with inputs=pool, the pool allow.
        inputs: the pool's, each once; the pool's moved by up to a pixel in eight; or uniform noise.
        epochs: passes over the answers; more where they are few.
        snapshots: copies for the curve, each from twice the queries of the one before.

    Raises:
        NotApplicable: no pool where one is needed, or no budget.
        BadOption: fewer than 1 query, epoch or snapshot.
        MethodFailed: the training diverges.
    """
    if queries < 1 or snapshots < 1:
        raise BadOption(f"queries={queries}, snapshots={snapshots}: each must be 1 or more")
    notes = notebook(victim, fresh, epochs, 1, "knockoff", random)
    if inputs != "noise":
        need_pool(pool, 1, "knockoff")
    x = _drawn(victim, pool, queries, inputs, random)
    x = x[: int(min(len(x), victim.left))]
    for number in reversed(range(snapshots)):
        part = max(1, len(x) >> number)
        if part > len(notes.x):
            notes.ask(x[len(notes.x) : part])
            notes.learn()
    return notes.theft(inputs=inputs)


def _drawn(
    victim: Victim, pool: Tensor, count: int, inputs: str, random: torch.Generator
) -> Tensor:
    """Return up to `count` inputs (B, *S)."""
    if inputs == "noise":
        return uniform(victim.domain, count, random)
    if inputs == "shifted":
        return shifted(victim.domain, pool, count, random)
    return pool[torch.randperm(len(pool), generator=random)[:count]]
