"""FAB: steps onto the plane where two classes tie, drawn towards the input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.attacks._ascent import in_ball
from trustml.attacks._nearest import Nearest, answer, at_home, close_in, drawn_in
from trustml.attacks._planes import nearest_rival, onto_plane
from trustml.attacks._pursuit import NO_GRADIENT, Seen, likeliest_others
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Norm, Random, Threat
from trustml.errors import BadOption, NotApplicable
from trustml.geometry import diameter, like
from trustml.registry import attack

_TINY = 1e-8
# The paper's α, η and β: the most that the input's own way to the plane weighs, how far a step goes
# times that way, and what is kept of the move from the input once a point has won.
_DRAW, _OVERSHOOT, _BACK = 0.1, 1.05, 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Boundary:
    """Where a walk along the border between classes stands (B, *S)."""

    point: Tensor


@attack(
    source="Croce & Hein 2020, arXiv:1907.02044; targets: arXiv:2003.01690, §5",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
    minimum_norm=True,
)
def fab(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    restarts: int = 1,
    targets: int = 0,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win; the input itself where none is found.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: the samples' random numbers.
        steps: looks of one walk.
        restarts: walks for each sample; the first begins at the input, others at random near it.
        targets: walk towards each of so many likeliest wrong classes in turn; 0 walks to the
            nearest class at each step, which takes a gradient of each of them. A targeted threat
            has just the one.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: a count below 1 (targets: below 0).
        NotApplicable: the model's answers have no gradient.
    """
    if min(steps, restarts, targets + 1) < 1:
        raise BadOption(
            f"fab: steps={steps} and restarts={restarts} must be 1 or more, targets={targets} "
            "0 or more"
        )
    quarry = Quarry(x, y, threat, random)
    nearest = at_home(model, quarry)
    aims: tuple[Tensor | None, ...] = (None,)
    if targets and not threat.targeted:
        aims = likeliest_others(model, x, y)[:, :targets].unbind(1)
    for restart in range(restarts):
        for rank, aim in enumerate(aims):
            hunted = Quarry(x, y, threat, random.fold(restart).fold(rank), aim)
            nearest = close_in(
                model, hunted, nearest, begin=_begin_at_random if restart else _begin,
                see=_see, advance=_advance, steps=steps, stop_inside=stop_inside,
            )  # fmt: skip
    return answer(drawn_in(model, quarry, nearest, stop_inside=stop_inside), quarry)


def _begin(quarry: Quarry, nearest: Nearest) -> Boundary:
    return Boundary(quarry.x)


def _begin_at_random(quarry: Quarry, nearest: Nearest) -> Boundary:
    """Return points of the ball half as wide as the nearest known one is far, or as the budget."""
    x, threat = quarry.x, quarry.threat
    widest = diameter(threat.norm, threat.high - threat.low, x[0].numel())
    radius = torch.minimum(nearest.distance, threat.budget(x).flatten()).clamp(max=widest) / 2
    move = in_ball(x, threat.norm, like(radius, x), quarry.random)
    return Boundary((x + move).clamp(threat.low, threat.high))


def _see(model: Classifier, walk: Boundary, quarry: Quarry) -> Seen:
    """Return how far each rival is ahead (B,) at the points, with the gradient of that."""
    with torch.enable_grad():
        point = walk.point.detach().requires_grad_()
        logits = model(point)
        if not logits.requires_grad:
            raise NotApplicable(NO_GRADIENT)
        if quarry.target is not None or quarry.threat.targeted:
            lead, gradient = _lead_of_one(logits, point, quarry)
        else:
            others = torch.arange(logits.shape[1] - 1, device=point.device).expand(len(point), -1)
            others = others + (others >= quarry.y[:, None])
            lead, gradient = nearest_rival(logits, point, quarry.y, others, quarry.threat.norm)
    logits = logits.detach()
    reached = quarry.threat.reached(logits, quarry.y)
    return Seen(point.detach(), logits, lead.to(point.dtype), gradient, reached)


def _lead_of_one(logits: Tensor, point: Tensor, quarry: Quarry) -> tuple[Tensor, Tensor]:
    """Return the lead of the target over y, or of the wanted class over the best other."""
    own = logits.gather(1, quarry.y[:, None])[:, 0]
    if quarry.target is not None:
        lead = logits.gather(1, quarry.target[:, None])[:, 0] - own
    else:
        lead = own - logits.scatter(1, quarry.y[:, None], -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad(lead.sum(), point)
    return lead.detach(), gradient


def _advance(walk: Boundary, seen: Seen, quarry: Quarry, nearest: Nearest) -> Boundary:
    """Return the walk on the planes, drawn a little towards where x itself falls on them."""
    threat, x, box = quarry.threat, quarry.x, (quarry.threat.low, quarry.threat.high)
    # A point that won is left backwards. The plane read there serves at the new place too: the
    # paper reads it anew, which costs a look more than it brings.
    place = torch.where(like(seen.reached, x), x + _BACK * (seen.point - x), seen.point)
    lead = seen.losses + _inner(seen.gradient, place - seen.point)
    point, start, slope = (t.flatten(1) for t in (place, x, seen.gradient))
    here = onto_plane(point, slope, -lead, threat.norm, box)
    home = onto_plane(start, slope, -lead - _inner(slope, start - point), threat.norm, box)
    near, far = _length(here, threat.norm), _length(home, threat.norm)
    share = (near / (near + far)).clamp(max=_DRAW)[:, None]
    onward = (point + _OVERSHOOT * here) * (1 - share) + (start + _OVERSHOOT * home) * share
    return Boundary(onward.view_as(x).clamp(*box))


def _inner(one: Tensor, other: Tensor) -> Tensor:
    """Return the products (B,), summed so that no rounding depends on the other rows."""
    return (one * other).flatten(1).sum(1, dtype=torch.float64).to(one.dtype)


def _length(move: Tensor, norm: Norm) -> Tensor:
    order = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}[norm]
    size = torch.linalg.vector_norm(move, ord=order, dim=1, dtype=torch.float64)
    return size.clamp_min(_TINY).to(move.dtype)
