"""A copy learnt without any data: from made-up inputs on which two copies disagree."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Theft, Victim
from trustml.errors import BadOption
from trustml.registry import stealer
from trustml.stealing._distillation import Learnt, distilled, notebook
from trustml.stealing._synthetic import smooth

RATE = 0.05


@stealer(
    source="Truong et al. 2021, CVPR (arXiv:2011.14779): the objective, disagreement; a second "
    "copy stands for the victim, so that its gradient costs no queries (Seung et al. 1992, COLT)",
    needs=Access.LABELS,
)
def data_free(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    queries: int = 2000,
    rounds: int = 5,
    steps: int = 20,
    epochs: int = 60,
) -> Theft:
    """Ask about smooth noise; then about noise shaped so that two copies answer differently.

    Args:
        queries: in all, as far as the budget goes; the pool is not looked at.
        rounds: the first asks about noise as it is.
        steps: how often the noise is moved to raise the disagreement.
        epochs: passes over the answers, each round; more where they are few.

    Raises:
        NotApplicable: no budget.
        BadOption: fewer than 1 query, not 1 to `queries` rounds, or fewer than 0 steps.
        MethodFailed: the training diverges.
    """
    if queries < 1 or not 1 <= rounds <= queries or steps < 0:
        raise BadOption(f"queries={queries}, rounds={rounds}, steps={steps}: out of range")
    notes = notebook(victim, fresh, epochs, 1, "data_free", random)
    total = int(min(queries, victim.left))
    rounds = min(rounds, total)
    pair: tuple[Learnt, Learnt] | None = None
    for number in range(1, rounds + 1):
        count = total * number // rounds - total * (number - 1) // rounds
        x = smooth(victim.domain, count, random)
        if pair is not None:
            x = _disputed(pair, x, steps, victim.domain.low, victim.domain.high)
        notes.ask(x)
        copy = notes.learn()
        if number < rounds:
            seed = int(torch.randint(2**31, (1,), generator=random))
            pair = copy, distilled(fresh, notes.x, notes.labels, epochs, seed)
    return notes.theft(rounds=rounds)


def _disputed(
    pair: tuple[Learnt, Learnt], x: Tensor, steps: int, low: float, high: float
) -> Tensor:
    """Return x (B, *S) moved within the box to where the two copies' probabilities differ more."""
    for _ in range(steps):
        x = x.clone().requires_grad_(True)
        with torch.enable_grad():
            first, second = (copy(x).softmax(1) for copy in pair)
            (gradient,) = torch.autograd.grad((first - second).abs().sum(), x)
        largest = gradient.abs().flatten(1).amax(1).clamp_min(1e-12)
        way = gradient / largest.view(-1, *[1] * (x.dim() - 1))
        x = (x.detach() + RATE * (high - low) * way).clamp(low, high)
    return x
