"""Fewer shades: what is smaller than half a shade is gone."""

from torch import Tensor, nn

from trustml.contracts import Domain
from trustml.defenses._before import Before, straight_through
from trustml.errors import BadOption
from trustml.registry import safeguard


@safeguard(
    source="Xu, Evans, Qi 2018, arXiv:1704.01155, section II-B",
    stage="serving",
    beaten_by="its gradient taken as that of the identity, or a budget beyond half a shade",
    does_not_stop="changes of more than half a shade, patches, triggers",
)
def bit_depth(
    model: nn.Module, domain: Domain, /, *, bits: int = 3, bpda: bool = True
) -> nn.Module:
    """Put the model behind an input of 2^bits shades in each entry.

    Args:
        model: what is guarded.
        domain: of its inputs.
        bits: 1 to 8.
        bpda: gradients pass as if the input were not rounded, so that attacks see through;
            without, they are 0, which stops no attacker who knows it.

    Raises:
        BadOption: bits outside 1 to 8.
    """
    if not 1 <= bits <= 8:
        raise BadOption(f"bit_depth: bits={bits} is not allowed: 1 to 8")
    return Before(model, _Shades(domain, 2**bits - 1, bpda))


class _Shades(nn.Module):
    def __init__(self, domain: Domain, steps: int, bpda: bool) -> None:
        super().__init__()
        self.low, self.width = domain.low, domain.high - domain.low
        self.steps, self.bpda = steps, bpda

    def forward(self, x: Tensor) -> Tensor:
        share = ((x - self.low) / self.width * self.steps).round() / self.steps
        return straight_through(self.low + self.width * share, x, self.bpda)
