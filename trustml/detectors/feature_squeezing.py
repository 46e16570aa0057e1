"""Feature squeezing: how far the answer moves when detail is taken from the input."""

from collections.abc import Callable

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, logits_of, need_rows
from trustml.detectors._reading import answers, bounds_of
from trustml.errors import BadOption, NotApplicable
from trustml.registry import detector

PROBED = 8
TOLERANCE = 1e-3


@detector(source="Xu et al. 2018, arXiv:1704.01155, section 4", reads=("logits", "x", "gradients"))
def feature_squeezing(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    bits: int = 1,
    window: int = 2,
) -> Scorer:
    """Score by the greatest L1 distance, (B,), of the probabilities before and after squeezing.

    Args:
        bits: depth that an entry is rounded to, 0 for no such squeezer; published: 1 for digits,
            5 for photographs.
        window: side of the median filter, 0 for none; published: 2.

    Raises:
        NotApplicable: a median filter on inputs that are no images, or logits of a front end.
        BadInput: no training inputs, or answers that are no numbers.
        BadOption: bits outside 0 to 16, a window below 0, or neither squeezer.
    """
    if not (0 <= bits <= 16 and window >= 0 and (bits or window > 1)):
        raise BadOption(
            f"feature_squeezing: bits={bits},window={window} is not allowed: give bits from 1 to "
            f"16, a window of 2 or more, or both; 0 leaves one out"
        )
    need_rows(train, "training")
    if window > 1 and train.x.ndim != 4:
        raise NotApplicable(
            "the median filter needs images (channels, height, width): set window=0"
        )
    miss = (answers(model, train.x[:PROBED]) - logits_of(train)[:PROBED]).abs().amax()
    if miss > TOLERANCE * logits_of(train)[:PROBED].abs().amax():
        raise NotApplicable(
            "it compares the model's own answers, and these logits are others: no front end can "
            "stand before it"
        )
    low, high = bounds_of(train)
    squeezers: list[Callable[[Tensor], Tensor]] = []
    if bits:
        squeezers.append(lambda x: rounded(x, bits, low, high))
    if window > 1:
        squeezers.append(lambda x: median_filter(x, window))

    def score(outputs: Outputs) -> Tensor:
        before = logits_of(outputs).softmax(1)
        moves = [
            (answers(model, squeeze(outputs.x)).softmax(1) - before).abs().sum(1)
            for squeeze in squeezers
        ]
        return torch.stack(moves).amax(0)

    return score


def rounded(x: Tensor, bits: int, low: float, high: float) -> Tensor:
    """Return x rounded to the nearest of 2^bits levels from low to high.

    Its slope, which is 0 nearly everywhere, is given as 1: so says Athalye et al. 2018.
    """
    top = 2**bits - 1
    level = ((x.detach() - low) / (high - low) * top).round() / top * (high - low) + low
    return level + (x - x.detach()) if x.requires_grad else level


def median_filter(x: Tensor, window: int) -> Tensor:
    """Return the upper median of each window of images (B, C, H, W), mirrored at the edges."""
    for axis in (2, 3):
        x = x.index_select(axis, _mirrored(x.shape[axis], window).to(x.device))
    patches = x.unfold(2, window, 1).unfold(3, window, 1).flatten(4)
    return patches.kthvalue(window**2 // 2 + 1, dim=4).values


def _mirrored(size: int, window: int) -> Tensor:
    """Return the places, first to last, that windows around each of `size` places reach."""
    before = window // 2
    places = torch.arange(-before, size + window - before - 1)
    # Twice the size is one period of a row and its mirror image.
    places = places % (2 * size)
    return torch.where(places < size, places, 2 * size - 1 - places)
