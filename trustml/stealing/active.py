"""A copy learnt from those inputs of the pool that it knows least about, round by round."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Theft, Victim
from trustml.errors import BadOption
from trustml.registry import stealer
from trustml.stealing._distillation import Learnt, need_pool, notebook

Choice = Literal["margin", "entropy", "k_center", "random"]


@stealer(
    source="Pal et al. 2020, AAAI (ActiveThief), section 3; Sener, Savarese 2018, ICLR (k-center)",
    needs=Access.LABELS,
)
def active(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    queries: int = 500,
    rounds: int = 5,
    choice: Choice = "margin",
    epochs: int = 60,
) -> Theft:
    """Ask about the pool's inputs in rounds, each time where the copy of the last one is unsure.

    Args:
        queries: in all, as far as budget and pool go.
        rounds: the first is drawn at random.
        choice: least margin between the two best classes, highest entropy, farthest from all that
            was asked in the copy's features, or random.
        epochs: passes over the answers, each round; more where they are few.

    Raises:
        NotApplicable: an empty pool, or no budget.
        BadOption: fewer than 1 query, or not 1 to `queries` rounds.
        MethodFailed: the training diverges.
    """
    if queries < 1 or not 1 <= rounds <= queries:
        raise BadOption(f"queries={queries}, rounds={rounds}: 1 ≤ rounds ≤ queries")
    notes = notebook(victim, fresh, epochs, 1, "active", random)
    need_pool(pool, 1, "active")
    order = torch.randperm(len(pool), generator=random)
    total = int(min(queries, len(pool), victim.left))
    rounds = min(rounds, total)
    left, known = order, order[:0]
    copy: Learnt | None = None
    for number in range(1, rounds + 1):
        count = total * number // rounds - total * (number - 1) // rounds
        rows = left[:count] if copy is None else _unsure(copy, pool, left, known, count, choice)
        notes.ask(pool[rows])
        copy = notes.learn()
        known = torch.cat([known, rows])
        left = left[~torch.isin(left, rows)]
    return notes.theft(choice=choice, rounds=rounds)


def _unsure(
    copy: Learnt, pool: Tensor, left: Tensor, known: Tensor, count: int, choice: Choice
) -> Tensor:
    """Return `count` of the rows `left` of the pool; those come in random order."""
    if choice == "random":
        return left[:count]
    with torch.no_grad():
        if choice == "k_center":
            return left[_spread(copy.features(pool[left]), copy.features(pool[known]), count)]
        shares = copy(pool[left]).softmax(1)
    if choice == "entropy":
        doubt = -(shares * shares.clamp_min(1e-12).log()).sum(1)
    else:
        best = shares.topk(2, dim=1).values
        doubt = best[:, 1] - best[:, 0]
    return left[doubt.argsort(descending=True, stable=True)[:count]]


def _spread(features: Tensor, known: Tensor, count: int) -> Tensor:
    """Return rows, each the farthest from all that are known or chosen before it."""
    distance = torch.cdist(features, known).amin(dim=1)
    chosen = []
    for _ in range(count):
        row = int(distance.argmax())
        chosen.append(row)
        distance = torch.minimum(distance, (features - features[row]).norm(dim=1))
        distance[row] = -1.0
    return torch.tensor(chosen)
