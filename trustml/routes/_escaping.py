"""What routes share: the attacker's aim, its own mail a part at a time, and its universal pattern.

A model may answer one class more than the data have: the last one is "a person looks at it", which
an attacker who knows the gate wants as little as the right class.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from trustml.access import in_blocks
from trustml.contracts import Random, Split
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.geometry import like

# Places a mask or pattern into images: (x, their random numbers, step) → x
Applied = Callable[[Tensor, Tensor, Random, int], Tensor]
# What an attacker makes small: (model, x, its split, y, the unit of gaps) → scalar
Lack = Callable[[Any, Tensor, Split, Tensor, float], Tensor]
PART = 128  # samples that a step looks at
MOMENTUM = 0.9

# What the shortfall counts beside the share that gets through.
_SLOPE = 0.1


def escape(logits: Tensor, y: Tensor, classes: int) -> Tensor:
    """Return (B,) how far the answer is on the attacker's side: above 0 it is what they want.

    The best wrong class above the right one; once it leads, above the person's, too. Before, the
    person does not count: the way to a sure wrong answer leads through unsure ones.
    """
    rows = y[:, None]
    wrong = logits[:, :classes].scatter(1, rows, -torch.inf).amax(1)
    lead = wrong - logits.gather(1, rows)[:, 0]
    if logits.shape[1] == classes:
        return lead
    passed = torch.minimum(lead, wrong - logits[:, classes:].amax(1))
    return torch.where(lead > 0, passed, lead)


def escaped(model: Any, x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Return (B,) bool: what is misread, and not sent to a person."""
    with torch.no_grad():
        return escape(in_blocks(model, x), y, classes) > 0


def aimed(
    route: str, model: Any, seen: Split, random: Random, target: int
) -> tuple[Any, Split, Random]:
    """Return the task of having mail of other classes read as `target`, as one of two classes.

    Class 0 is whatever else is answered best, class 1 the target; the person stays what it is. So
    what escapes is read as the target, and nothing but that counts. The logits are less their mean.

    Raises:
        BadOption: the data have no such class, or all mail is of it already.
    """
    if not 0 <= target < seen.classes:
        raise BadOption(
            f"{route}: target={target} is not allowed: classes are numbered 0 to {seen.classes - 1}"
        )
    rows = (seen.y != target).nonzero()[:, 0]
    if not len(rows):
        raise BadOption(
            f"{route}: target={target}: all mail is of that class already; take another class"
        )

    def answers(x: Tensor) -> Tensor:
        logits = model(x)
        logits = logits - logits[:, : seen.classes].mean(1, keepdim=True)
        wanted = logits[:, target : target + 1]
        others = torch.cat([logits[:, :target], logits[:, target + 1 : seen.classes]], 1)
        return torch.cat([others.amax(1, keepdim=True), wanted, logits[:, seen.classes :]], 1)

    x, ids = seen.x[rows.to(seen.x.device)], seen.ids[rows.to(seen.ids.device)]
    of_two = Split(x, torch.zeros_like(seen.y[rows]), ids, 2, seen.low, seen.high)
    return answers, of_two, random.at(rows.cpu())


def shortfall(model: Any, x: Tensor, split: Split, y: Tensor, unit: float) -> Tensor:
    """Return the scalar that an attacker makes small; what is won already hardly counts."""
    gap = escape(model(x), y, split.classes) / unit
    return torch.nn.functional.softplus(-gap).mean()


def held(model: Any, x: Tensor, split: Split, y: Tensor, unit: float) -> Tensor:
    """Return minus the share of mail that gets through, each piece counted by degrees.

    Neither what is won nor what is hopeless draws one pattern for all its way; a little of the
    shortfall keeps the slope where hardly any mail is near.
    """
    gap = escape(model(x), y, split.classes) / unit
    return (_SLOPE * torch.nn.functional.softplus(-gap) - torch.sigmoid(gap)).mean()


def uprising(model: Any, x: Tensor, split: Split, y: Tensor, unit: float) -> Tensor:
    """Return the same for mail that is `aimed`, less how high the wanted class stands.

    The class that is to be passed is another one for each piece of mail: one pattern cannot push
    all of them down, and does better where it also lifts the wanted one, which is the same for all.
    """
    logits = model(x)
    gap, height = escape(logits, y, split.classes) / unit, logits[:, 1] / unit
    return (torch.nn.functional.softplus(-gap) - height).mean()


def slope_of(lack: Tensor, here: Tensor) -> Tensor:
    """Return the gradient of what lacks, like `here`.

    Raises:
        NotApplicable: there is none.
    """
    slope = None
    if lack.requires_grad:
        (slope,) = torch.autograd.grad(lack, here, allow_unused=True)
    if slope is None:
        raise NotApplicable(
            "this route follows gradients, and the model's answers have none: gain_drift, strokes, "
            "stuck_pixels:shape=column and envelope_noise:attack=square ask for answers alone"
        )
    return slope


def unit_of(model: Any, seen: Split) -> float:
    """Return the spread of margins over clean mail, in which gaps are measured.

    Raises:
        BadInput: the attacker has no mail of its own.
    """
    if not len(seen):
        raise BadInput("a route is prepared on mail of the attacker's own, and there is none")
    with torch.no_grad():
        gaps = escape(in_blocks(model, seen.x), seen.y, seen.classes)
    spread = float(gaps[gaps.isfinite()].std(unbiased=False))
    return spread if spread > 0 else 1.0


def parts(seen: Split, random: Random, steps: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (step, rows): for each step another part of the attacker's mail."""
    for step in range(steps):
        lot = random.uniform((1,), "part", step)[:, 0]
        yield step, lot.argsort(stable=True)[:PART].to(seen.x.device)


def universal(
    model: Any,
    seen: Split,
    random: Random,
    start: Tensor,
    how: tuple[Applied, Tensor, int],
    *,
    looks: tuple[int, ...] = (-1,),
    lack: Lack = shortfall,
) -> Tensor:
    """Return the pattern that misleads most of the attacker's mail, by steps along the sign.

    Args:
        model: what is looked at.
        seen: the attacker's mail.
        random: its numbers.
        start: the pattern to begin with; NaN-free, within the limits.
        how: how a pattern changes images, its limits (2, *S), and how many steps.
        looks: steps whose random numbers a pattern is judged by, the mean over them.
        lack: what is made small.
    """
    apply, (least, most), steps = how
    unit, pattern, best = unit_of(model, seen), start, start
    score, pace = -1.0, torch.zeros_like(start)
    for step, rows in parts(seen, random, steps):
        x, y, own = seen.x[rows], seen.y[rows], random.at(rows.cpu())
        here = pattern.detach().requires_grad_()
        with torch.enable_grad():
            lacking = lack(model, apply(x, here, own, step), seen, y, unit)
        slope = slope_of(lacking, here)
        pace = MOMENTUM * pace + slope / slope.abs().sum().clamp_min(1e-30)
        length = 0.2 * (most - least) * (1 - step / steps) + 0.01 * (most - least)
        pattern = (pattern - length * pace.sign()).clamp(least, most)
        if (step + 1) % max(1, steps // 5) == 0 or step + 1 == steps:
            won = sum(
                success(model, seen, lambda z: apply(z, pattern, random, look))  # noqa: B023
                for look in looks
            )
            if won > score:
                score, best = won, pattern
    return best


def success(model: Any, seen: Split, change: Callable[[Tensor], Tensor]) -> float:
    """Return the share of the attacker's mail that escapes once it is changed."""
    with torch.no_grad():
        return float(escaped(model, change(seen.x), seen.y, seen.classes).double().mean())


def check_share(route: str, **shares: float) -> None:
    """Refuse a share outside (0, 1].

    Raises:
        BadOption: one is outside, or NaN.
    """
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise BadOption(f"{route}: {name}={share:g} is not allowed: above 0, up to 1")


def check_counts(route: str, **counts: int) -> None:
    """Refuse counts that are none.

    Raises:
        BadOption: one is below 1.
    """
    for name, count in counts.items():
        if count < 1:
            raise BadOption(f"{route}: {name}={count} is not allowed: 1 or more")


def image_sides(route: str, split: Split) -> tuple[int, int, int]:
    """Return channels, height and width.

    Raises:
        NotApplicable: the inputs have no two axes of space.
    """
    shape = tuple(split.x.shape[1:])
    if len(shape) != 3:
        raise NotApplicable(
            f"{route} needs images (channels, height, width), and these inputs have the shape "
            f"{shape}: scanner_pattern, gain_drift and envelope_noise take any shape"
        )
    return shape[0], shape[1], shape[2]


def along(values: Tensor, x: Tensor) -> Tensor:
    """Return values (B,) of the samples' random numbers, shaped and placed to work on x."""
    return like(values.to(x), x)
