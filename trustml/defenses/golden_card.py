"""Known cards among the mail: does the scanner still see what is on them?"""

from typing import Literal

import torch
from torch import Tensor

from trustml.contracts import Classifier, Random, Split
from trustml.defenses._watching import (
    Scan,
    Watch,
    check_counts,
    check_validation,
    one_stream,
    scanned,
)
from trustml.registry import safeguard


@safeguard(
    source="known-answer self-tests, as in ISO/IEC 19790:2012, section 7.10",
    stage="monitoring",
    beaten_by="knowing the very cards, or telling a card from mail, and leaving cards alone",
    does_not_stop="what is on the envelope itself, and what happens between two cards",
)
def golden_card(
    model: Classifier,
    validation: Split,
    /,
    *,
    random: Random,
    every: int = 20,
    card: Literal["mail", "pattern"] = "mail",
) -> Watch:
    """Return the watch that scans a card of known pixels at random items, one in `every`: (N,).

    An item's suspicion is the length (L2, in units of the box) of what was wrong with the last
    card: the likelihood ratio for a change of unknown shape under even noise.

    Args:
        model: plays no part: pixels are compared.
        validation: whose inputs are the cards, if they are to look like mail.
        random: draws when a card comes, and which.
        every: items to a card, on average, which is the mean delay; the chance is the same at each
            item, so that nobody can tell when the next one comes.
        card: "mail" is a piece of known mail, "pattern" random shades, which show more of the
            scanner and are told from mail at a glance.

    Raises:
        BadOption: fewer than one item to a card.
        BadInput: no validation sample.
    """
    check_counts("golden_card", every=every)
    check_validation("golden_card", validation, 1)
    stream, side = one_stream(random), validation.high - validation.low

    def cards(count: int) -> Tensor:
        if card == "mail":
            rows = stream.integers(len(validation), (count,), "which card")[0]
            return validation.x[rows.to(validation.x.device)]
        shades = stream.uniform((count, *validation.x.shape[1:]), "shades of a card")[0]
        return validation.low + side * shades.to(validation.x)

    def watch(items: Tensor, scan: Scan) -> Tensor:
        comes = stream.uniform((len(items),), "a card comes")[0] < 1 / every
        times = comes.nonzero().flatten()
        suspicion = torch.zeros(len(items), dtype=torch.float64, device=items.device)
        if not len(times):
            return suspicion
        known = cards(len(times)).to(items)
        wrong = ((scanned(scan, known) - known).flatten(1).double() / side).norm(dim=1)
        latest = comes.cumsum(0).to(items.device)
        return torch.where(latest > 0, wrong[(latest - 1).clamp_min(0)], suspicion)

    return watch
