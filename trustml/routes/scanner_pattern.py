"""One faint pattern that the scanner adds to everything it sees: a universal perturbation."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trustml.attacks.deepfool import deepfool
from trustml.contracts import Classifier, Random, Split
from trustml.geometry import project
from trustml.registry import route
from trustml.routes._escaping import (
    Applied,
    aimed,
    check_counts,
    check_share,
    escaped,
    held,
    success,
    universal,
    uprising,
)
from trustml.threats import Lp

Ball = Literal["linf", "l2"]


@route(
    source="Moosavi-Dezfooli et al. 2017, arXiv:1610.08401; Shafahi et al. 2018, arXiv:1811.11304; "
    "target: Hirano & Takemoto 2020, arXiv:1911.06502",
    via="scanner",
    knows="the model, mail like that to come, and the scanner's firmware",
)
def scanner_pattern(
    model: Classifier,
    seen: Split,
    /,
    *,
    random: Random,
    epsilon: float = 0.2,
    steps: int = 100,
    norm: Ball = "linf",
    method: Literal["gradient", "deepfool"] = "gradient",
    target: int | None = None,
) -> Callable[[Tensor, Tensor, Random], Tensor]:
    """Return x plus one pattern for all, of `epsilon` of the box's side.

    Args:
        model: whose gradients the pattern follows.
        seen: the attacker's mail.
        random: which part of it each step looks at.
        epsilon: of the box's side, above 0 and up to 1: of each entry (linf), or of the entries'
            root mean square (l2).
        steps: along the gradient's sign; or mail looked at, one after another.
        norm: what is bounded.
        method: gradient follows the loss of all mail (Shafahi); deepfool adds, for each piece of
            mail that is still read rightly, the least move that has it misread
            (Moosavi-Dezfooli), and does not know of a person who looks at doubtful mail.
        target: the class that mail of all others shall be read as; any wrong one by default. The
            exam counts what is misread all the same, and notes how much of it is read as this.

    Raises:
        BadOption: an epsilon, a number of steps or a class that is not allowed.
    """
    check_share("scanner_pattern", epsilon=epsilon)
    check_counts("scanner_pattern", steps=steps)
    if target is not None:
        model, seen, random = aimed("scanner_pattern", model, seen, random, target)
    side = seen.high - seen.low
    still = torch.zeros_like(seen.x[0])
    far = epsilon * side * (math.sqrt(still.numel()) if norm == "l2" else 1.0)

    def add(x: Tensor, pattern: Tensor, _: Random, __: int) -> Tensor:
        if norm == "l2":
            pattern = pattern * (far / pattern.norm().clamp_min(1e-12)).clamp(max=1.0)
        return (x + pattern.to(x)).clamp(seen.low, seen.high)

    if method == "deepfool":
        pattern = _gathered(model, seen, random, (add, norm, far), steps)
    else:
        most = torch.full_like(still, min(far, side))
        limits = torch.stack([-most, most])
        # From a point at rest a length has no slope; and an L2 pattern may be short of its ball.
        lack = held if target is None else uprising
        pattern = universal(model, seen, random, still, (add, limits, steps), lack=lack)
    return lambda x, y, own: add(x, pattern, own, 0)


def _gathered(
    model: Classifier, seen: Split, random: Random, how: tuple[Applied, Ball, float], steps: int
) -> Tensor:
    """Return the best of the patterns that grow by one piece of mail's least move after another."""
    add, norm, far = how
    pattern = best = torch.zeros_like(seen.x[0])
    score, side = -1.0, seen.high - seen.low
    anywhere = Lp(norm, math.inf, seen.low, seen.high)
    order = random.uniform((1,), "mail")[:, 0].argsort(stable=True)

    def answers(x: Tensor) -> Tensor:
        return model(x)[:, : seen.classes]

    for step in range(steps):
        row = order[step % len(order)][None]
        x, y = seen.x[row.to(seen.x.device)], seen.y[row.to(seen.y.device)]
        moved = add(x, pattern, random, step)
        if not bool(escaped(model, moved, y, seen.classes)):
            found = deepfool(answers, moved, y, anywhere, random=random.at(row))  # type: ignore[arg-type]
            grown = (pattern + (found - moved)[0])[None]
            around = torch.tensor(far, dtype=torch.float64, device=grown.device)
            pattern = project(grown, torch.zeros_like(grown), norm, around, (-side, side))[0]
        if (step + 1) % max(1, steps // 10) == 0 or step + 1 == steps:
            won = success(model, seen, lambda z: add(z, pattern, random, 0))  # noqa: B023
            if won > score:
                score, best = won, pattern
    return best
