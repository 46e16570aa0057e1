"""How far an attack may change an input, in words."""

from trustml.contracts import Record

_TOGETHER = {"l2": "L2", "l1": "L1"}


def change(record: Record) -> str:
    """Return what the threat of a record allows, as half a sentence with its norm in brackets."""
    threat = record.threat
    norm, epsilon = str(threat["norm"]), float(threat["epsilon"])
    width = float(threat.get("high", 1.0)) - float(threat.get("low", 0.0))
    short = f"({norm} ≤ {epsilon:.4g})"
    if norm in _TOGETHER:
        return f"an input changed by up to {epsilon:.4g} in all, in {_TOGETHER[norm]} {short}"
    return f"each pixel or number changed by up to {epsilon / width:.4g} of its range {short}"
