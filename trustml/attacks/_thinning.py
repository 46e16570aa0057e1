"""Putting changed entries back where the inputs have them, as long as the point still wins."""

import torch

from trustml.access import at, frozen
from trustml.attacks._descent import see_margin
from trustml.attacks._nearest import Nearest
from trustml.attacks._quarry import Quarry
from trustml.contracts import Classifier


def thinned(
    model: Classifier, quarry: Quarry, nearest: Nearest, looks: int, *, stop_inside: bool = False
) -> Nearest:
    """Return the nearest in L0 after `looks` tries for each sample to put entries back.

    The order is that of what each entry gives were the margin affine, read off one gradient, the
    least first. Half of the changed entries are tried at once; after each failure half as many, and
    an entry that fails alone is kept.
    """
    rows = nearest.open(quarry.threat, stop_inside)
    rows = rows[nearest.distance[rows] < torch.inf]
    if not len(rows) or not looks:
        return nearest
    hunted, held, part = quarry.at(rows), nearest.at(rows), at(model, rows)
    with frozen(model):
        seen = see_margin(part, held, hunted)
        start, end = hunted.x.flatten(1), held.point.flatten(1)
        moved = start != end
        # Entries that did not move come last and are out of the game.
        gain = (seen.gradient.flatten(1) * (end - start)).masked_fill(~moved, torch.inf)
        rank = gain.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        count = moved.sum(1)
        kept, place, chunk = moved, torch.zeros_like(count), (count // 2).clamp_min(1)
        with torch.no_grad():
            for _ in range(looks):
                tried = (rank >= place[:, None]) & (rank < (place + chunk)[:, None])
                fewer = kept & ~tried
                point = torch.where(fewer, end, start).view_as(hunted.x)
                reached = hunted.threat.reached(part(point), hunted.y)
                held = held.or_nearer(point, reached, hunted)
                kept = torch.where(reached[:, None], fewer, kept)
                place = place + torch.where(reached | (chunk == 1), chunk, 0)
                chunk = torch.where(reached, chunk, (chunk // 2).clamp_min(1))
    return nearest.put(rows, held)
