"""What an attacker may do, in plain words, and how the distances of a table are called."""

from collections.abc import Mapping
from typing import Any

from trustml.measures.spatial import DEGREES
from trustml.reports.tables import number

_NORMS = {"l0": "L0", "l1": "L1", "l2": "L2", "linf": "Linf"}
# Of a measure that is no norm: the head of its column, and what that counts.
_MEASURES = {
    "patch": ("patch", "share of the area of the smallest rectangle around all changes"),
    "spatial": ("spatial", "1 is a turn by 30° or a move by a tenth of a side"),
    "colour": ("colour", "largest CIEDE2000 of a pixel"),
    "structure": ("struc-\nture", "1 − SSIM"),
    "flow": ("flow", "pixels between a place and where it shows what it shows, at most"),
    "wasserstein": ("wasser-\nstein", "pixels by which all the brightness moved, on average"),
}
_WORDS = {
    "linf": "every entry may move by up to {}",
    "l2": "an input may move by up to {} in L2",
    "l1": "an input may move by up to {} in L1",
    "l0": "up to {} entries may change",
    "colour": "the colour of each pixel may change by up to {} (CIEDE2000, where about 1 is just "
    "seen)",
    "flow": "each pixel may show what lies up to {} pixels away (flow)",
    "wasserstein": "brightness may be moved to other pixels, by up to {} pixels on average over "
    "all of it (Wasserstein)",
}


def allowed(threat: Mapping[str, Any]) -> str:
    """Return what the threat of a record lets an attacker do, with its budget, as half a sentence.

    What is said of pixels needs the threat's "shape" (C, H, W), which old records do not have.
    """
    norm, epsilon = threat["norm"], float(threat["epsilon"])
    shape = [int(side) for side in threat.get("shape", ())]
    if norm == "patch":
        return f"one rectangle of up to {_area(epsilon, shape)} may show anything"
    if norm == "spatial":
        turn = f"a picture may be turned by up to {DEGREES * epsilon:.4g}°"
        return f"{turn} and moved by up to {_shift(epsilon, shape)}"
    if norm == "structure":
        return (
            f"a picture may change as long as its likeness to the original (SSIM) is "
            f"{1 - epsilon:.4g} or more"
        )
    return _WORDS[norm].format(f"{epsilon:.4g}")


def distance_heads(norm: str) -> tuple[dict[str, str], str]:
    """Return the heads of the distances that a table under the norm shows, and what they are.

    A measure that is no norm comes first, and L1 makes room for it.
    """
    if norm not in _MEASURES:
        return _NORMS, "L0 … Linf: median distance of the fooled inputs"
    head, counts = _MEASURES[norm]
    far = {norm: head} | {name: said for name, said in _NORMS.items() if name != "l1"}
    return far, f"{norm}, L0 … Linf: median distance of the fooled inputs; {norm}: {counts}"


def _area(epsilon: float, shape: list[int]) -> str:
    share = f"{number(100 * epsilon)} % of the picture"
    if not shape:
        return share
    whole = shape[-2] * shape[-1]
    return f"{share} ({int(epsilon * whole + 1e-9)} of {whole} pixels)"


def _shift(epsilon: float, shape: list[int]) -> str:
    """Return how far: the grid of shifts takes a tenth of each side, in whole pixels."""
    if not shape:
        return f"{number(10 * epsilon)} % of each side"
    down, across = (epsilon * round(side / 10) for side in shape[-2:])
    if down == across:
        return _pixels(down)
    return f"{_pixels(down)} down or up and {_pixels(across)} to a side"


def _pixels(count: float) -> str:
    return f"{count:.3g} pixel{'' if count == 1 else 's'}"
