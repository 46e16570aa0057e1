"""A copy learnt from a few inputs, moved again and again the way that changes the copy's answer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Theft, Victim
from trustml.errors import BadOption
from trustml.registry import stealer
from trustml.stealing._distillation import Learnt, need_pool, notebook


@stealer(source="Papernot et al. 2017, AsiaCCS (arXiv:1602.02697), section 4", needs=Access.LABELS)
def jacobian_augmentation(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    queries: int = 1000,
    seeds: int = 100,
    step: float = 0.1,
    epochs: int = 60,
) -> Theft:
    """Ask about a few inputs; then, round by round, about each one moved along the copy's gradient.

    Args:
        queries: in all, as far as the budget goes.
        seeds: inputs of the pool to begin with.
        step: how far an input moves in each entry, as a share of the box's side.
        epochs: passes over the answers, each round; more where they are few.

    Raises:
        NotApplicable: an empty pool, or no budget.
        BadOption: numbers below 1, or a step that is not above 0.
        MethodFailed: the training diverges.
    """
    if queries < 1 or seeds < 1 or not step > 0:
        raise BadOption(f"queries={queries}, seeds={seeds}, step={step}: too small")
    notes = notebook(victim, fresh, epochs, 1, "jacobian_augmentation", random)
    need_pool(pool, 1, "jacobian_augmentation")
    first = torch.randperm(len(pool), generator=random)[: min(seeds, queries)]
    notes.ask(pool[first])
    copy = notes.learn()
    rounds = 1
    while notes.queries < queries and victim.left > 0 and not notes.stopped:
        # Every other round goes back, as in the paper's periodic step.
        way = step * (1 if rounds % 2 else -1) * (victim.domain.high - victim.domain.low)
        moved = _moved(copy, notes.x, notes.labels, way)
        moved = moved.clamp(victim.domain.low, victim.domain.high)
        chosen = torch.randperm(len(moved), generator=random)[: queries - notes.queries]
        notes.ask(moved[chosen])
        copy = notes.learn()
        rounds += 1
    return notes.theft(rounds=rounds)


def _moved(copy: Learnt, x: Tensor, labels: Tensor, way: float) -> Tensor:
    """Return x (N, *S) moved along the sign of the gradient of the logit of its label."""
    x = x.clone().requires_grad_(True)
    with torch.enable_grad():
        answered = copy(x).gather(1, labels.argmax(1, keepdim=True))
        (gradient,) = torch.autograd.grad(answered.sum(), x)
    return (x + way * gradient.sign()).detach()
