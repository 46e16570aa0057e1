"""The momentum iterative method and its kin, whose points other models misread too."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trustml.access import at
from trustml.attacks._ascent import Ascent, ascend, begin_ascent, in_ball, placed, settled
from trustml.attacks._flights import checkpoint
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import Best, Loss, Seen, look, pursue, untouched
from trustml.attacks._quarry import Quarry
from trustml.attacks._views import blurred, check_images, copied, looks, shrunk, together
from trustml.attacks.pgd import step_length
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import diameter, like
from trustml.registry import attack
from trustml.threats import check_readable

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
    stop: bool


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

    style = Style(
        climbed, steps, step, decay, nesterov, variance, diversity, translation, scales, stop
    )
    quarry = Quarry(x, y, threat, random)
    return settled(_walked(model, quarry, style).point, quarry)


def _walked(model: Classifier, quarry: Quarry, style: Style) -> Best:
    # The first look is at the inputs themselves: it shows who is won from the start.
    return pursue(
        model, quarry, untouched(quarry), loss=style.loss, steps=style.steps, wins=style.stop,
        begin=partial(_begin, style=style), advance=partial(_advance, style=style),
        see=partial(_see, style=style),
    )  # fmt: skip


def _begin(quarry: Quarry, style: Style) -> Coasting:
    ascent = begin_ascent(quarry, step_length(quarry, style.step, style.steps), start=False)
    still = torch.zeros_like(quarry.x)
    return Coasting(quarry.x, ascent, still, still)


def _advance(walk: Coasting, seen: Seen, quarry: Quarry, style: Style) -> Coasting:
    """Return the walk one steepest step along its velocity further."""
    slope, norm = seen.gradient, quarry.threat.norm
    size = slope.flatten(1).abs().mean(1, dtype=torch.float64).to(slope.dtype)
    velocity = slope / like(size.clamp_min_(torch.finfo(slope.dtype).tiny), slope)
    if style.decay:
        velocity.add_(walk.velocity, alpha=style.decay)
    ascent, step = ascend(walk.ascent, replace(seen, gradient=velocity), quarry), walk.step + 1
    point = ascent.point
    # The last look is at where the walk ends.
    if style.nesterov and step < style.steps:
        # Entries of mean size 1 make a move of one step's length in each norm.
        pace = ascent.step * (style.decay / diameter(norm, 1.0, slope[0].numel()))
        point = placed(ascent, torch.addcmul(point, pace, velocity), quarry).point
    return Coasting(point, ascent, velocity, walk.around, step)


def _see(model: Classifier, walk: Coasting, quarry: Quarry, style: Style) -> tuple[Coasting, Seen]:
    """Return what the point shows, with the slope of the style; the walk learns of neighbours."""
    if not walk.step:
        style = replace(style, loss=partial(_readable, loss=style.loss))
    seen = _viewed(model, walk.point, quarry, style, walk.step)
    if style.diversity:
        seen = _judged(model, walk, seen, quarry, style)
    if not style.variance:
        return walk, seen
    around = _around(model, walk, quarry, style) - seen.gradient
    return replace(walk, around=around), replace(seen, gradient=seen.gradient + walk.around)


def _viewed(model: Classifier, point: Tensor, quarry: Quarry, style: Style, draw: int) -> Seen:
    """Return what the first views of the points show; the slope is that of all of them together."""
    if style.scales == 1 and not (style.diversity or style.translation):
        return look(model, point, quarry, style.loss)
    low, high = quarry.threat.low, quarry.threat.high
    shown, backs = [], []
    for scale in range(style.scales):
        view = point if scale == 0 else point + (1 - 0.5**scale) * (low - point)
        if style.diversity:
            number = draw * style.scales + scale
            views = shrunk(point, quarry.random, style.diversity, number)
            view = (low + views.of(view - low)).clamp_(low, high)
            backs.append(views.back)
        shown.append(view)
    seen, slopes = looks(model, shown, quarry, style.loss)
    if style.diversity:
        slopes = [back(slope) for back, slope in zip(backs, slopes, strict=True)]
    total = slopes[0]
    for scale, slope in enumerate(slopes[1:], 1):
        total = total.add(slope, alpha=0.5**scale)
    return replace(seen, gradient=blurred(total, style.translation) if style.translation else total)


def _around(model: Classifier, walk: Coasting, quarry: Quarry, style: Style) -> Tensor:
    """Return the mean slope (B, *S) at random neighbours of the points."""
    total = torch.zeros_like(walk.point)
    numbers = torch.arange(1, style.variance + 1, device=total.device)
    for group in numbers.split(together(model, quarry.x)):
        part, some = copied(model, quarry, len(group))
        names = group.repeat_interleave(len(total))
        some = replace(some, random=some.random.fold(names))
        near = _neighbour(walk.point.repeat(len(group), *[1] * (total.dim() - 1)), some, walk.step)
        for slope in _viewed(part, near, some, style, walk.step).gradient.split(len(total)):
            total.add_(slope)
    return total.div_(style.variance)


def _neighbour(point: Tensor, quarry: Quarry, draw: int) -> Tensor:
    """Return points (B, *S) of the box, at random around the given ones."""
    threat = quarry.threat
    widest = diameter(threat.norm, threat.high - threat.low, point[0].numel())
    reach = _AROUND * threat.budget(point).clamp(max=widest)
    move = in_ball(point, threat.norm, reach, quarry.random, draw)
    return move.add_(point).clamp_(threat.low, threat.high)


def _judged(model: Classifier, walk: Coasting, seen: Seen, quarry: Quarry, style: Style) -> Seen:
    """Return the slope of a view, with what the points themselves show.

    Without `stop` all are asked about, at each step; with it those whose views have won, where
    samples may leave, for a view is hardly misread before its image is.
    """
    answers, losses = seen.logits, torch.full_like(seen.losses, -torch.inf)
    reached = torch.zeros_like(seen.reached)
    rows = torch.arange(len(quarry.y), device=reached.device)
    if style.stop:
        rows = seen.reached.nonzero()[:, 0] if checkpoint(walk.step) else rows[:0]
    if len(rows):
        some, part = (quarry.at(rows), at(model, rows))
        with torch.no_grad():
            said = part(walk.point[rows])
            losses = losses.index_copy(0, rows, style.loss(said, some))
        reached = reached.index_copy(0, rows, some.threat.reached(said, some.y))
    return Seen(walk.point, answers, losses, seen.gradient, reached)


def _readable(logits: Tensor, quarry: Quarry, loss: Loss) -> Tensor:
    """Return the loss of answers that can be read, of labels that are classes."""
    check_readable(logits.detach(), quarry.y)
    return loss(logits, quarry)


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
