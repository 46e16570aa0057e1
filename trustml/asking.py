"""Queries as a victim takes them: in its bounds, its precision, on its 8-bit levels."""

import torch
from torch import Tensor

from trustml.contracts import Domain, Terms, Victim
from trustml.errors import BadInput

LEVELS = 255


def asked(x: Tensor, victim: Victim) -> Tensor:
    """Return the nearest inputs to x that the victim takes, in float64: what is really asked."""
    terms: Terms = victim.terms
    if terms.inputs != "free":
        x = x.clamp(victim.domain.low, victim.domain.high)
    if terms.inputs == "8-bit":
        x = on_levels(x, victim.domain)
    return x.to(victim.dtype).double()


def ask(victim: Victim, points: Tensor) -> Tensor:
    """Return the answers (B, K) in float64 to points (B, D), which are as `asked` gives them."""
    return victim(points.to(victim.dtype).view(-1, *victim.domain.shape)).double()


def on_levels(x: Tensor, domain: Domain) -> Tensor:
    """Return the nearest 8-bit inputs to x, within the box."""
    step = (domain.high - domain.low) / LEVELS
    level = ((x - domain.low) / step).round().clamp(0, LEVELS)
    return (level * step + domain.low).clamp(domain.low, domain.high)


def allowed(x: Tensor, domain: Domain, inputs: str) -> Tensor:
    """Return x, its 8-bit levels exact.

    Raises:
        BadInput: something that the terms do not take.
    """
    if not bool(torch.isfinite(x).all()):
        raise BadInput("a query is not finite: NaN and infinity are never answered")
    if inputs == "free":
        return x
    if bool(((x < domain.low) | (x > domain.high)).any()):
        raise BadInput(
            f"a query reaches from {float(x.min()):g} to {float(x.max()):g}; this victim takes "
            f"inputs in [{domain.low:g}, {domain.high:g}]"
        )
    if inputs == "box":
        return x
    exact = on_levels(x, domain)
    if bool(((x - exact).abs() > 1e-6 * (domain.high - domain.low)).any()):
        raise BadInput(
            "a query lies between 8-bit levels; this victim takes multiples of 1/255 of the box: "
            "use asking.on_levels"
        )
    return exact
