"""Softmax regression from rounded probabilities: many answers, one convex fit."""

from collections.abc import Callable
from math import ceil, prod

import torch
from torch import Tensor, nn

from trustml.asking import ask, asked
from trustml.contracts import Access, Json, Theft, Victim
from trustml.errors import BadOption, Refused
from trustml.registry import stealer
from trustml.stealing._copies import AffineCopy
from trustml.symmetry import centred
from trustml.victim import least_access, least_budget


@stealer(
    source="Tramèr et al. 2016, USENIX Security, sections 4.1 and 7 (arXiv:1609.02943)",
    needs=Access.PROBABILITIES,
)
def linear_rounded(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    ratio: float = 5.0,
    l2: float = 1e-6,
    steps: int = 500,
) -> Theft:
    """Fit a softmax regression to rounded probabilities by cross-entropy, which is convex.

    Rounding errors at many inputs average out; the parameters are not to be had exactly. Inputs are
    uniform in the box; half of them, where there is a pool, are drawn part of the way towards it.

    Args:
        ratio: queries for each of the D+1 columns.
        l2: penalty on the squared parameters.
        steps: of L-BFGS at most.

    Raises:
        NotApplicable: less than probabilities, or fewer than D+1 queries.
        BadOption: an option out of its range.
    """
    least_access(victim, Access.PROBABILITIES, "linear_rounded")
    if ratio < 1 or l2 < 0 or steps < 1:
        raise BadOption(f"ratio={ratio}, l2={l2}, steps={steps}: ratio and steps ≥ 1, l2 ≥ 0")
    columns = prod(victim.domain.shape) + 1
    least_budget(victim, columns, "linear_rounded")
    before = victim.queries
    count = int(min(ceil(ratio * columns), victim.left))
    points = asked(_drawn(victim, pool, count, random), victim)
    shown, stopped = _answers(victim, points, columns)
    points = points[: len(shown)]
    extended = torch.cat([points, torch.ones(len(points), 1, dtype=torch.float64)], 1)
    earlier = []
    for part in (columns * 2**k for k in range(8) if columns * 2**k < len(points)):
        table = _fitted(extended[:part], shown[:part], l2, steps)
        earlier.append(Theft(AffineCopy(victim.domain, table), {}, part))
    table = _fitted(extended, shown, l2, steps)
    proof: dict[str, Json] = {
        "decimals": victim.terms.decimals,
        "answers that the copy rounds alike": _alike(victim, extended @ table.T, shown),
        "answers with several probabilities above 0": float(
            ((shown > 0).sum(1) > 1).double().mean()
        ),
    }
    if stopped:
        proof["stopped"] = stopped
    copy = AffineCopy(victim.domain, table)
    return Theft(copy, proof, victim.queries - before, "behaviour", tuple(earlier))


def _answers(victim: Victim, points: Tensor, columns: int) -> tuple[Tensor, str]:
    """Return the answers (N, K) to as many of the points as were answered, and why no more.

    Raises:
        Refused: fewer than D+1 were.
    """
    shown: list[Tensor] = []
    seen = victim.at(Access.PROBABILITIES)
    try:
        for part in points.split(columns):
            shown.append(ask(seen, part))
    except Refused as error:
        if not shown:
            raise
        return torch.cat(shown), str(error)
    return torch.cat(shown), ""


def _drawn(victim: Victim, pool: Tensor, count: int, random: torch.Generator) -> Tensor:
    domain = victim.domain
    uniform = torch.rand(count, prod(domain.shape), generator=random, dtype=torch.float64)
    uniform = domain.low + (domain.high - domain.low) * uniform
    if not len(pool):
        return uniform
    public = pool.flatten(1).double()
    public = public[torch.randint(len(public), (count,), generator=random)]
    share = torch.rand(count, 1, generator=random, dtype=torch.float64)
    share[::2] = 0.0
    return torch.lerp(uniform, public, share)


def _fitted(points: Tensor, shown: Tensor, l2: float, steps: int) -> Tensor:
    """Return the table (K, D+1), centred, of least cross-entropy to the answers, summed to one."""
    # An answer of zeros alone, where all were rounded down, says only that no class stands out.
    total = shown.sum(1, keepdim=True)
    target = torch.where(total > 0, shown / total.clamp_min(1e-300), 1 / shown.shape[1])
    table = torch.zeros(shown.shape[1], points.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [table], max_iter=steps, line_search_fn="strong_wolfe",
        tolerance_grad=1e-10, tolerance_change=1e-14,
    )  # fmt: skip

    def loss() -> Tensor:
        solver.zero_grad()
        miss = -(target * (points @ table.T).log_softmax(1)).sum(1).mean()
        value = miss + l2 * table.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return centred(table.detach())


def _alike(victim: Victim, logits: Tensor, shown: Tensor) -> float | None:
    """Return the share of answers (B, K) that the copy gives too, rounded as the victim's are."""
    if victim.terms.decimals is None:
        return None
    step = 10.0**-victim.terms.decimals
    return float(((logits.softmax(1) - shown).abs().amax(1) <= 0.501 * step).double().mean())
