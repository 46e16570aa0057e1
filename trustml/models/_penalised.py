"""A network trained to the maximum of likelihood times prior, for posteriors built around that."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Penalised(nn.Module):
    """Loss: mean cross-entropy + precision / (2N) · ‖weights‖², a N(0, 1/precision) prior."""

    def __init__(self, network: nn.Module, precision: float) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits (B, K)."""
        logits: Tensor = self.network(x)
        return logits

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return the penalised loss of a batch."""
        square = sum((weight.square().sum() for weight in self.parameters()), x.new_zeros(()))
        return cross_entropy(self(x), y) + self.precision / (2 * examples) * square
