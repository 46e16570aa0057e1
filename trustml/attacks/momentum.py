"""The momentum iterative method and its kin, whose points other models misread too."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trustml.attacks._ascent import Ascent, ascend, begin_ascent, in_ball
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import Loss, Quarry, Seen, at_rest, look, pursue, untouched
from trustml.attacks._views import blurred, check_images, shrunk
from trustml.attacks.pgd import step_length
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import diameter, like
from trustml.registry import attack

# Neighbours of variance tuning are so many budgets away at most (Wang & He 2021, β).
_AROUND = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Coasting:
    """Where a walk stands.

    Args:
        point: (B, *S) where it looks: where it stands, or ahead of that (Nesterov).
        ascent: where it stands.
        velocity: sum (B, *S) of slopes, each with entries of mean size 1, older ones faded.
        around: how much (B, *S) the mean slope around the last point differed from that at it.
        step: moves so far.
    """

    point: Tensor
    ascent: Ascent
    velocity: Tensor
    around: Tensor
    step: int = 0


@dataclass(frozen=True, slots=True)
class Style:
    """What is climbed, and how slopes are taken: the options of the attack."""

    loss: Loss
    steps: int
    step: float | None
    decay: float
    nesterov: bool
    variance: int
    diversity: float
    translation: int
    scales: int


@attack(
    source="Dong et al. 2018, arXiv:1710.06081 (MI); Lin et al. 2020, arXiv:1908.06281 (NI, SI); "
    "Wang & He 2021, arXiv:2103.15571 (VMI); Xie et al. 2019, arXiv:1803.06978 (DI); "
    "Dong et al. 2019, arXiv:1904.02884 (TI)",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
)
def momentum(  # noqa: PLR0913 - the members of a family are options of one attack
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 10,
    step: float | None = None,
    decay: float = 1.0,
    nesterov: bool = False,
    variance: int = 0,
    diversity: float = 0.0,
    translation: int = 0,
    scales: int = 1,
    loss: LossName = "cross_entropy",
    stop: bool = True,
) -> Tensor:
    """Return the best points (B, *S) of a walk whose slopes add up, in the ball.

    MI as it is; NI with nesterov, VMI with variance=20, DI with diversity=0.5, TI with
    translation=15, SI with scales=5, and any of them together.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers, for variance and diversity.
        steps: moves of the walk.
        step: length of a move in the threat's norm; by default 2.5 · epsilon / steps.
        decay: what is kept of the velocity at each move; at 0 the walk is that of `bim`.
        nesterov: take slopes where the velocity would carry the point.
        variance: neighbours whose slopes steady the next move; as many passes a move.
        diversity: how probable it is that a slope is taken of the image made smaller and moved.
        translation: side of a Gaussian kernel, odd, that slopes are convolved with; 0 is none.
        scales: take slopes at the inputs, their halves, quarters, …; as many passes a move.
        loss: what is climbed.
        stop: leave a sample alone once a point has won. Without, the point of the highest loss of
            the whole walk is returned: what a surrogate should lend to another model.

    Raises:
        BadOption: a count or share out of its range, an even translation.
        NotApplicable: no gradient, or diversity or translation for what is no image.
    """
    _check(steps, step, decay, variance, scales)
    _check_views(x, diversity, translation)

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    style = Style(climbed, steps, step, decay, nesterov, variance, diversity, translation, scales)
    quarry = Quarry(x, y, threat, random)
    best = pursue(
        model, quarry, at_rest(model, quarry) if stop else untouched(quarry), loss=climbed,
        steps=steps, wins=stop, begin=partial(_begin, style=style),
        advance=partial(_advance, style=style), see=partial(_see, style=style),
    )  # fmt: skip
    return threat.project(best.point, x)


def _begin(quarry: Quarry, style: Style) -> Coasting:
    ascent = begin_ascent(quarry, step_length(quarry, style.step, style.steps), start=False)
    still = torch.zeros_like(quarry.x)
    return Coasting(quarry.x, ascent, still, still)


def _advance(walk: Coasting, seen: Seen, quarry: Quarry, style: Style) -> Coasting:
    walk = _moved(walk, seen, quarry, style.decay)
    # The last look is at where the walk ends.
    ahead = style.nesterov and walk.step < style.steps
    return _ahead(walk, quarry, style.decay) if ahead else walk


def _moved(walk: Coasting, seen: Seen, quarry: Quarry, decay: float) -> Coasting:
    """Return the walk one steepest step along its velocity further."""
    slope = seen.gradient
    size = torch.linalg.vector_norm(slope.flatten(1), ord=1, dim=1, dtype=torch.float64)
    share = slope[0].numel() / size.clamp_min(torch.finfo(slope.dtype).tiny)
    velocity = slope * like(share.to(slope.dtype), slope)
    if decay:
        velocity.add_(walk.velocity, alpha=decay)
    ascent = ascend(walk.ascent, replace(seen, gradient=velocity), quarry)
    return replace(
        walk, point=ascent.point, ascent=ascent, velocity=velocity, step=walk.step + 1
    )  # fmt: skip


def _ahead(walk: Coasting, quarry: Quarry, decay: float) -> Coasting:
    """Return the walk with its look where the velocity would carry it."""
    # Entries of mean size 1 make a move of one step's length in each norm.
    pace = walk.ascent.step * (decay / diameter(quarry.threat.norm, 1.0, quarry.x[0].numel()))
    return replace(walk, point=quarry.threat.project(walk.point + pace * walk.velocity, quarry.x))


def _see(model: Classifier, walk: Coasting, quarry: Quarry, style: Style) -> tuple[Coasting, Seen]:
    """Return what the point shows, with the slope of the style; the walk learns of neighbours."""
    first, around = walk.step * (style.variance + 1), walk.around
    seen = _viewed(model, walk.point, quarry, style, first)
    if not (style.variance or style.diversity):
        return walk, seen
    if style.variance:
        near = torch.zeros_like(around)
        for number in range(1, style.variance + 1):
            point = _neighbour(walk.point, quarry, first + number)
            near = near + _viewed(model, point, quarry, style, first + number).gradient
        around = near / style.variance - seen.gradient
    steadied = seen.gradient + walk.around
    if style.diversity:
        seen = _judged(model, walk.point, quarry, style)
    return replace(walk, around=around), replace(seen, gradient=steadied)


def _viewed(model: Classifier, point: Tensor, quarry: Quarry, style: Style, draw: int) -> Seen:
    """Return what views of the points show; the slope is that of all of them together."""
    low, high = quarry.threat.low, quarry.threat.high
    if style.scales == 1 and not (style.diversity or style.translation):
        return look(model, point, quarry, style.loss)
    seen = []
    for scale in range(style.scales):
        shown = point + (1 - 0.5**scale) * (low - point)
        back: Callable[[Tensor], Tensor] = torch.clone
        if style.diversity:
            number = draw * style.scales + scale
            views = shrunk(point, quarry.random, style.diversity, number)
            shown, back = (low + views.of(shown - low)).clamp(low, high), views.back
        sight = look(model, shown, quarry, style.loss)
        seen.append(replace(sight, gradient=back(sight.gradient) * 0.5**scale))
    slope = torch.stack([sight.gradient for sight in seen]).sum(0)
    if style.translation:
        slope = blurred(slope, style.translation)
    return replace(seen[0], gradient=slope)


def _neighbour(point: Tensor, quarry: Quarry, draw: int) -> Tensor:
    """Return points (B, *S) of the box, at random around the given ones."""
    threat = quarry.threat
    widest = diameter(threat.norm, threat.high - threat.low, point[0].numel())
    reach = _AROUND * threat.budget(point).clamp(max=widest)
    move = in_ball(point, threat.norm, reach, quarry.random, draw)
    return (point + move).clamp(threat.low, threat.high)


def _judged(model: Classifier, point: Tensor, quarry: Quarry, style: Style) -> Seen:
    """Return what the points themselves show, without a slope."""
    with torch.no_grad():
        logits = model(point)
        losses = style.loss(logits, quarry)
    return Seen(point, logits, losses, point, quarry.threat.reached(logits, quarry.y))


def _check(steps: int, step: float | None, decay: float, variance: int, scales: int) -> None:
    if steps < 1 or scales < 1 or variance < 0:
        raise BadOption(
            f"momentum: steps={steps} and scales={scales} must be 1 or more, variance={variance} "
            "0 or more"
        )
    if not decay >= 0:
        raise BadOption(f"momentum: decay={decay} must be 0 or more; the usual one is 1")
    if step is not None and not step > 0:
        raise BadOption(
            f"momentum: step={step} must be above 0; leave it out for 2.5 · epsilon / steps"
        )


def _check_views(x: Tensor, diversity: float, translation: int) -> None:
    if not 0 <= diversity <= 1:
        raise BadOption(f"momentum: diversity={diversity} is a probability, from 0 to 1")
    if translation < 0 or (translation and translation % 2 == 0):
        raise BadOption(f"momentum: translation={translation} must be odd, or 0 for none")
    if diversity:
        check_images(x, "momentum", f"diversity={diversity}")
    if translation:
        check_images(x, "momentum", f"translation={translation}")
