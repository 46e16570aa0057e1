"""STRIP: an answer that stays when ordinary inputs are laid over the input."""

from typing import Literal

import torch
from torch import Generator, Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, inputs_of, need_rows
from trustml.detectors._reading import answers, bounds_of
from trustml.errors import BadOption, UnknownName
from trustml.registry import detector

SEED = 0


@detector(source="Gao et al. 2019, arXiv:1902.06531, equations 2 to 4", reads=("x", "gradients"))
def strip(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    overlays: int = 20,
    blend: Literal["sum", "mean"] = "sum",
) -> Scorer:
    """Score by minus the mean entropy over classes, (B,) in bits, under clean overlays.

    An ordinary input's answer changes with what is laid over it, a trigger's does not: low entropy
    is odd. It asks for a backdoor that works on any input; one that looks at the rest passes.

    Args:
        overlays: training inputs, drawn once, the same for every input; published: 100.
        blend: the input plus the overlay, cut to the box, as published; or their mean.

    Raises:
        BadOption: no overlay, or another blend.
        BadInput: no training inputs, or answers that are no numbers.
    """
    if overlays < 1:
        raise BadOption(f"strip: overlays={overlays} is not allowed: 1 or more")
    if blend not in ("sum", "mean"):
        raise UnknownName.of("blend of strip", blend, ("sum", "mean"))
    need_rows(train, "training")
    lot = torch.randperm(len(train.x), generator=Generator().manual_seed(SEED))[:overlays]
    over, (low, high) = inputs_of(train)[lot.to(train.x.device)], bounds_of(train)

    def laid(x: Tensor, one: Tensor) -> Tensor:
        return (x + (one - low)).clamp(low, high) if blend == "sum" else (x + one) / 2

    def score(outputs: Outputs) -> Tensor:
        x = inputs_of(outputs)
        found = [entropy(answers(model, laid(x, one.to(x)))) for one in over]
        return -torch.stack(found).mean(0)

    return score


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy over classes, (B,) in bits, of logits (B, K)."""
    return torch.special.entr(logits.softmax(1)).sum(1) / torch.log(torch.tensor(2.0))
