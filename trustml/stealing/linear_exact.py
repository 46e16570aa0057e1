"""Softmax regression from D+1 answers: logits give all of it, probabilities all but the shift."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trustml.asking import ask, asked
from trustml.contracts import Access, Symmetry, Theft, Victim
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.registry import stealer
from trustml.stealing._copies import AffineCopy
from trustml.stealing._designs import basis, signs
from trustml.symmetry import centred
from trustml.victim import least_access, least_budget

# Below this a probability has lost digits to underflow.
TINY = {torch.float32: 1e-36, torch.float64: 1e-290}
HALVINGS = 24


@stealer(
    source="Tramèr et al. 2016, USENIX Security, section 4.1 (arXiv:1609.02943)",
    needs=Access.PROBABILITIES,
)
def linear_exact(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    noise: Literal["relative", "absolute"] = "relative",
    repeats: int = 1,
    checks: int = 2,
) -> Theft:
    """Solve D+1 answers of an affine classifier for its weights; further answers check the copy.

    Args:
        noise: what the answers' error is like: "relative" (floating point) asks about one entry at
            a time, "absolute" (noise of fixed size) about corners of the box, all entries at once.
        repeats: how often each input is asked about; the mean is used.
        checks: further queries, as far as the budget goes: the first one again, then random ones.

    Raises:
        NotApplicable: no probabilities, rounded ones, a budget below D+1, or no affine classifier.
        MethodFailed: the victim answered one query in two ways.
        BadOption: fewer than 1 repeat, or fewer than 0 checks.
    """
    least_access(victim, Access.PROBABILITIES, "linear_exact")
    if repeats < 1 or checks < 0:
        raise BadOption(f"repeats={repeats}, checks={checks}: at least 1 repeat and 0 checks")
    if victim.terms.decimals is not None:
        raise NotApplicable(
            f"linear_exact cannot solve probabilities of {victim.terms.decimals} decimals: "
            f"linear_rounded fits them"
        )
    before = victim.queries
    design = basis if noise == "relative" else signs
    points = design(victim)
    least_budget(victim, len(points) * repeats, "linear_exact")
    first = _answers(victim, points, repeats)
    if noise == "relative":
        points, heights = _unsaturated(victim, points, first, repeats)
    else:
        heights = _heights(victim, _all_there(victim, first))
    solved = _solved(points, heights)
    spent = victim.queries - before
    found = _checked(victim, solved, int(min(checks, victim.left)), random)
    if noise == "relative":
        _consistent(found, victim, first, points, heights)
    certificate = {
        "design": noise,
        "queries of the copy": spent,
        "check queries": victim.queries - before - spent,
        "check gap": found.gap,
        "check gap that rounding explains": found.allowed,
    }
    up_to: Symmetry = "nothing" if victim.terms.answers == Access.LOGITS else "shift"
    return Theft(AffineCopy(victim.domain, solved), certificate, victim.queries - before, up_to)


@dataclass(frozen=True, slots=True)
class _Checks:
    """What the copy foretold wrongly by at most, and by how much rounding may make it wrong."""

    again: Tensor | None
    gap: float | None
    allowed: float | None


def _answers(victim: Victim, points: Tensor, repeats: int) -> Tensor:
    return torch.stack([ask(victim, points) for _ in range(repeats)]).mean(0)


def _heights(victim: Victim, answers: Tensor) -> Tensor:
    """Return logits (B, K), or what probabilities tell of them: less their mean over classes."""
    if victim.terms.answers == Access.LOGITS:
        return answers
    return centred(answers.log().T).T


def _unsaturated(
    victim: Victim, points: Tensor, answers: Tensor, repeats: int
) -> tuple[Tensor, Tensor]:
    """Return points and heights where no probability has vanished: steps halved until none has."""
    points, answers = points.clone(), answers.clone()
    for _ in range(HALVINGS):
        lost = _vanished(victim, answers)
        if not lost.any():
            break
        if lost[0]:
            raise _vanishes(victim)
        points[lost] = asked((points[lost] + points[0]) / 2, victim)
        if bool((points[lost] == points[0]).all(1).any()):
            raise _vanishes(victim)
        least_budget(
            victim, int(lost.sum()) * repeats, "linear_exact, where the softmax saturates,"
        )
        answers[lost] = _answers(victim, points[lost], repeats)
    return points, _heights(victim, _all_there(victim, answers))


def _all_there(victim: Victim, answers: Tensor) -> Tensor:
    if bool(_vanished(victim, answers).any()):
        raise _vanishes(victim)
    return answers


def _vanished(victim: Victim, answers: Tensor) -> Tensor:
    """Return (B,) whether an answer holds a probability too small to have a logarithm."""
    if victim.terms.answers == Access.LOGITS:
        return torch.zeros(len(answers), dtype=torch.bool)
    return (answers < TINY[victim.dtype]).any(1)


def _vanishes(victim: Victim) -> NotApplicable:
    return NotApplicable(
        "linear_exact needs probabilities above 0, and the victim answers 0 even close to "
        "the first query: linear_labels needs labels only"
    )


def _solved(points: Tensor, heights: Tensor) -> Tensor:
    """Return the table (K, D+1) whose affine map has these heights (N, K) at points (N, D)."""
    steps = points[1:] - points[0]
    if len(points) == points.shape[1] + 1 and bool((steps == steps.diagonal().diag()).all()):
        # Entry by entry: no rounding but that of two answers.
        weight = ((heights[1:] - heights[0]) / steps.diagonal()[:, None]).T
    else:
        design = torch.cat([points, torch.ones(len(points), 1).double()], 1)
        return torch.linalg.lstsq(design, heights).solution.T
    bias = heights[0] - weight @ points[0]
    return torch.cat([weight, bias[:, None]], 1)


def _checked(victim: Victim, table: Tensor, count: int, random: torch.Generator) -> _Checks:
    """Ask `count` more queries: the first point again, then random ones; compare with the copy."""
    if not count:
        return _Checks(None, None, None)
    first = basis(victim)[0]
    domain = victim.domain
    spread = torch.rand(count, len(first), generator=random, dtype=torch.float64)
    points = domain.low + (domain.high - domain.low) * spread
    # So near the first point that, by the copy, no probability comes close to vanishing.
    climb = table[:, :-1] @ (points - first).T
    room = 40.0 if victim.dtype == torch.float32 else 300.0
    if victim.terms.answers != Access.LOGITS:
        steepest = (climb.amax(0) - climb.amin(0)).clamp_min(1e-300)
        points = first + (points - first) * (room / steepest).clamp_max(1.0)[:, None]
    points[0] = first
    points = asked(points, victim)
    answers = ask(victim, points)
    foretold = points @ table[:, :-1].T + table[:, -1]
    heights = answers
    if victim.terms.answers != Access.LOGITS:
        foretold = centred(foretold.T).T
        heights = _heights(victim, answers.clamp_min(TINY[victim.dtype]))
    terms = points.abs() @ table[:, :-1].abs().T + table[:, -1].abs() + 1
    unit = torch.finfo(victim.dtype).eps
    allowed = 8 * unit * float(terms.max()) * (points.shape[1] + 1) ** 0.5
    return _Checks(answers[0], float((heights - foretold).abs().max()), allowed)


def _consistent(
    found: _Checks, victim: Victim, first: Tensor, points: Tensor, heights: Tensor
) -> None:
    """Return quietly unless the checks speak against an affine victim that stands by its word."""
    if found.again is None or found.gap is None or found.allowed is None:
        return
    if not torch.equal(found.again, first[0]):
        gap = float((found.again - first[0]).abs().max())
        if gap > found.allowed:
            raise MethodFailed(
                f"the victim answered its first query again with a difference of {gap:.2g}: it is "
                f"noisy (try noise=absolute and repeats) or it changed between the queries"
            )
    if found.gap > found.allowed:
        raise NotApplicable(
            f"the victim is no softmax regression: at a check query its answer is {found.gap:.2g} "
            f"from the affine map through the others, and rounding explains {found.allowed:.2g}"
        )
