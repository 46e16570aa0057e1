"""Whatever works: a fingerprint of the victim chooses the stealer, and a check judges its copy."""

from collections.abc import Callable, Mapping
from math import prod

import torch
from torch import Tensor, nn

from trustml.asking import ask, asked
from trustml.contracts import Access, Theft, Victim
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.fingerprint import fingerprint
from trustml.registry import get, stealer
from trustml.victim import least_budget

# What methods that learn call the number of copies that they train.
_COPIES = {"active": "rounds", "knockoff": "snapshots"}
LEAST = 60  # the fingerprint, and something to steal with


@stealer(
    source="trustml: fingerprint, then the cheapest method that it allows", needs=Access.LABELS
)
def auto(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    checks: int = 40,
    enough: float = 0.97,
    copies: int = 0,
) -> Theft:
    """Look at the victim, then try stealers, the cheapest first, until a copy agrees with it.

    Args:
        checks: inputs, of the pool and uniform ones, that a copy is judged by.
        enough: share of them that a copy must answer as the victim does, to be the last.
        copies: that a method which learns trains on its way, each from more queries than the one
            before; 0 is the method's own number.

    Raises:
        NotApplicable: a budget below 60 + checks queries, or no method was able to work.
        BadOption: fewer than 1 check or 0 copies, or a share outside 0..1.
        MethodFailed: the victim misbehaves.
    """
    if checks < 1 or not 0 <= enough <= 1:
        raise BadOption(f"checks={checks}, enough={enough}: 1 check or more, a share of 0 to 1")
    if copies < 0:
        raise BadOption(f"copies={copies}: 1 or more, or 0 for each method's own number")
    least_budget(victim, LEAST + checks, "auto")
    before = victim.queries
    seen = fingerprint(victim, random, pool)
    points = _points(victim, pool, checks, random, seen.takes_synthetic)
    labels = ask(victim, points).argmax(1)
    best: tuple[float, str, Theft] | None = None
    tried: list[str] = []
    for name in seen.methods:
        options = {_COPIES[name]: copies} if copies and name in _COPIES else {}
        theft = _tried(name, victim, pool, fresh, random, tried, options)
        if theft is None:
            continue
        share = _share(theft.copy, points.view(-1, *victim.domain.shape), labels)
        if best is None or share > best[0]:
            best = share, name, theft
        if share >= enough or victim.left < 1:
            break
    if best is None:
        raise NotApplicable(f"auto: no method was able to work: {'; '.join(tried)}")
    share, name, theft = best
    spent = victim.queries - before
    facts = {
        "method": name,
        "fingerprint queries": seen.queries,
        "checks that the copy answers alike": f"{round(share * len(labels))} of {len(labels)}",
        "failed before": tried or "nothing",
    }
    earlier = tuple(_later(part, spent - theft.queries) for part in theft.earlier)
    return Theft(theft.copy, facts | dict(theft.certificate), spent, theft.up_to, earlier)


def _tried(
    name: str,
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    random: torch.Generator,
    tried: list[str],
    options: Mapping[str, int],
) -> Theft | None:
    """Return the theft by this method, or note why there is none."""
    try:
        theft: Theft = get("stealer", name).function(
            victim, pool, fresh, random=random, **options
        )  # fmt: skip
    except (NotApplicable, MethodFailed) as error:
        tried.append(f"{name}: {error}")
        return None
    return theft


def _points(
    victim: Victim, pool: Tensor, count: int, random: torch.Generator, synthetic: bool
) -> Tensor:
    """Return (N, D) points as asked: half of the pool, if there is one, the others uniform."""
    low, high = victim.domain.low, victim.domain.high
    size = prod(victim.domain.shape)
    points = low + (high - low) * torch.rand(count, size, generator=random, dtype=torch.float64)
    if len(pool):
        rows = torch.randint(len(pool), (count,), generator=random)
        step = 2 if synthetic else 1
        points[::step] = pool.flatten(1).double()[rows][::step]
    return asked(points, victim)


def _share(copy: nn.Module, x: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((copy(x).argmax(1) == labels).double().mean())


def _later(theft: Theft, queries: int) -> Theft:
    """Return an earlier copy with the queries that came before its method began."""
    return Theft(theft.copy, theft.certificate, theft.queries + queries, theft.up_to)
