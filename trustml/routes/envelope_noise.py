"""A change of each piece of mail by itself, too small to be seen: any attack of the catalogue."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.contracts import Classifier, Norm, Random, Split
from trustml.errors import BadOption, NotApplicable
from trustml.recipes import choose
from trustml.registry import route
from trustml.threats import Lp


@route(
    source="Szegedy et al. 2014, arXiv:1312.6199; Croce, Hein 2020, arXiv:2003.01690 (apgd)",
    via="envelope",
    knows="what its attack needs of the model (gradients, with apgd), and the piece of mail",
)
def envelope_noise(
    model: Classifier,
    seen: Split,
    /,
    *,
    random: Random,
    attack: str = "apgd",
    norm: Norm = "linf",
    epsilon: float = 0.1,
) -> Callable[[Tensor, Tensor, Random], Tensor]:
    """Return the attack's candidates, within the ball around each input.

    Where the model may send mail to a person, the attack aims at the likeliest wrong class, so that
    the person counts as one more class that is not wanted.

    Args:
        model: what is attacked.
        seen: tells the box; otherwise not looked at.
        random: not asked; each piece of mail has its own.
        attack: of the catalogue, in double quotes where it has options: attack="pgd:steps=40".
        norm: of the ball.
        epsilon: its radius, in the units of x.

    Raises:
        BadOption: an attack that does not know the norm, or an epsilon that is not above 0.
        NotApplicable: the model may send mail to a person, and the attack cannot aim at a class.
    """
    chosen = choose("attack", attack)
    if norm not in chosen.plugin.facts["norms"]:
        known = ", ".join(chosen.plugin.facts["norms"])
        raise BadOption(f"envelope_noise: attack {attack} does not know {norm}, just {known}")
    if not 0 < epsilon < float("inf"):
        raise BadOption(f"envelope_noise: epsilon={epsilon:g} is not allowed: above 0")
    with torch.no_grad():
        gated = in_blocks(model, seen.x[:1]).shape[1] > seen.classes
    if gated and not chosen.plugin.facts["targeted"]:
        raise NotApplicable(
            f"envelope_noise: {attack} cannot aim at a class, which it takes to get past a gate: "
            f"use attack=apgd or attack=pgd"
        )
    threat = Lp(norm, epsilon, seen.low, seen.high, targeted=gated)

    def change(x: Tensor, y: Tensor, own: Random) -> Tensor:
        goal = _likeliest(model, x, y, seen.classes) if gated else y
        found = chosen.plugin.function(
            cast(Any, model), x.clone(), goal, threat, random=own, **chosen.options
        )
        return threat.project(found.detach().to(x), x)

    def frozen_change(x: Tensor, y: Tensor, own: Random) -> Tensor:
        with frozen(model):
            return change(x, y, own)

    return frozen_change


def _likeliest(model: Any, x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Return the wrong class (B,) that the model answers soonest."""
    with torch.no_grad():
        logits = in_blocks(model, x)[:, :classes]
    return logits.scatter(1, y[:, None], -torch.inf).argmax(1)
