"""Each pixel the median of its neighbours: single odd pixels are gone."""

from torch import Tensor, nn
from torch.nn.functional import pad

from trustml.contracts import Domain
from trustml.defenses._before import Before, image_shape
from trustml.errors import BadOption
from trustml.registry import safeguard


@safeguard(
    source="Xu, Evans, Qi 2018, arXiv:1704.01155, section II-C",
    stage="serving",
    beaten_by="its gradient, which passes through the pixels that are medians",
    does_not_stop="changes wider than half its window, smooth patterns, drift of gain",
)
def median_filter(model: nn.Module, domain: Domain, /, *, size: int = 3) -> nn.Module:
    """Put the model behind a median over size x size pixels; edges are mirrored.

    The gradient is the true one: that of the pixel which is the median.

    Raises:
        BadOption: a size that is even, below 3, or too large for the image.
        NotApplicable: the inputs are no images.
    """
    _, height, width = image_shape("median_filter", domain)
    if size < 3 or size % 2 == 0 or size // 2 >= min(height, width):
        raise BadOption(
            f"median_filter: size={size} is not allowed: odd, 3 or more, and below "
            f"{2 * min(height, width)} for images of {height}x{width}"
        )
    return Before(model, _Median(size))


class _Median(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        wide = pad(x, [self.size // 2] * 4, mode="reflect")
        windows = wide.unfold(-2, self.size, 1).unfold(-2, self.size, 1)
        return windows.flatten(-2).median(-1).values
