"""What an input is compared with: black, the mean, a blurred self, or an input of another class."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from trustml.access import frozen, in_blocks
from trustml.contracts import Classifier
from trustml.errors import BadInput, NotApplicable, UnknownName

Baseline = Literal["zero", "mean", "blur", "rival"]
BLUR = 3.0


def baseline_of(
    name: str, model: Classifier, x: Tensor, target: Tensor, background: Tensor
) -> Tensor:
    """Return one point (B, *S) for each input to compare with.

    "zero" is all zeros; "mean" the mean of the background; "blur" the input itself without its
    details; "rival" the nearest background input that the model reads as a class not the target.

    Raises:
        BadInput: a background of another shape, or an empty one where it is needed.
        NotApplicable: a blur of what is no image, or a background without a rival.
        UnknownName: there is no such baseline.
    """
    if name == "zero":
        return torch.zeros_like(x)
    if name == "blur":
        return blurred(x, BLUR)
    if name not in ("mean", "rival"):
        raise UnknownName.of("baseline", name, ("zero", "mean", "blur", "rival"))
    if background.shape[1:] != x.shape[1:] or not len(background):
        raise BadInput(
            f"the background {tuple(background.shape)} does not fit inputs {tuple(x.shape)}: "
            f"give at least one training input of the same shape"
        )
    if name == "mean":
        return background.mean(0, keepdim=True).to(x.dtype).expand_as(x).clone()
    return _rivals(model, x, target, background)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Return images x (B, C, H, W) under a Gaussian of `sigma` pixels, edges repeated.

    Raises:
        NotApplicable: the inputs are no images.
    """
    if x.dim() != 4:
        raise NotApplicable(f"inputs of shape {tuple(x.shape[1:])} cannot be blurred: no images")
    reach = max(1, round(3 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-places.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels = x.shape[1]
    padded = pad(x, (reach, reach, reach, reach), mode="replicate")
    across = conv2d(padded, kernel.expand(channels, 1, 1, -1), groups=channels)
    return conv2d(across, kernel.view(-1, 1).expand(channels, 1, -1, 1), groups=channels)


def _rivals(model: Classifier, x: Tensor, target: Tensor, background: Tensor) -> Tensor:
    with frozen(model), torch.no_grad():
        answers = in_blocks(model, background.to(x)).argmax(1)
    far = torch.cdist(x.flatten(1).double(), background.to(x).flatten(1).double())
    far = far.masked_fill(answers[None] == target[:, None], torch.inf)
    nearest = far.min(1)
    if bool(nearest.values.isinf().any()):
        raise NotApplicable(
            "the model reads the whole background as the class that is to be explained: "
            "there is no rival; give more background, or another baseline"
        )
    return background.to(x)[nearest.indices]
