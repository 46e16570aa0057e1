"""Monte-Carlo dropout: a draw is one set of masks, the same for every input and every batch."""

from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trustml.bayes.noise import noise
from trustml.errors import NotApplicable
from trustml.models._bayesian import log_mean_probability
from trustml.models._network import Network


class MCDropout(nn.Module):
    """A network with dropout, whose draws keep their numbered masks at prediction too."""

    def __init__(self, network: Network, draws: int) -> None:
        """Find the dropout layers.

        Raises:
            NotApplicable: there are none.
        """
        super().__init__()
        self.network, self.draws = network, draws
        leaves = [m for m in network.body.modules() if not list(m.children())]
        fixed = len(list(takewhile(lambda leaf: not isinstance(leaf, nn.Dropout), leaves)))
        if fixed == len(leaves):
            raise NotApplicable(
                "mc_dropout needs a network with dropout: give bnn a dropout above 0 and a body "
                "with a hidden layer"
            )
        # Plain lists, so that a layer is not registered twice.
        self._before, self._after = (leaves[:fixed],), (leaves[fixed:],)
        self._rates = [leaf.p for leaf in leaves if isinstance(leaf, nn.Dropout)]
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, nn.Dropout)]
        for number, place in enumerate(places):
            widths = [leaf.out_features for leaf in leaves[:place] if isinstance(leaf, nn.Linear)]
            masks = torch.stack([self._mask(draw, number, widths[-1]) for draw in range(draws)])
            self.register_buffer(f"masks{number}", masks, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probability over the draws, (B, K)."""
        return log_mean_probability(self.sample_logits(x, self.draws))

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads in the network without dropout, (B, D)."""
        return self.network.features(x)

    def sample_logits(self, x: Tensor, draws: int) -> Tensor:
        """Return logits (S, B, K); what comes before the first dropout is computed once."""
        x = self.network.scale(x)
        for layer in self._before[0]:
            x = layer(x)
        numbers = iter(range(len(self._rates)))
        masks: Tensor | None = None
        for layer in self._after[0]:
            if isinstance(layer, nn.Dropout):
                masks = self._masks(next(numbers), draws)
            elif isinstance(layer, nn.Linear):
                # To mask inputs is to mask columns of the next weights. Each draw has a product of
                # its own, so that its rounding does not depend on how many draws there are.
                weight = layer.weight if masks is None else layer.weight * masks[:, None]
                each = weight.mT.expand(draws, -1, -1)
                x, masks = torch.baddbmm(layer.bias, x.expand(draws, -1, -1), each), None
            else:
                x = layer(x)
        return x

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return the cross-entropy, in train mode under a fresh mask for each sample."""
        return cross_entropy(self.network(x), y)

    def _masks(self, number: int, draws: int) -> Tensor:
        known: Tensor = getattr(self, f"masks{number}")
        if draws <= len(known):
            return known[:draws]
        more = [self._mask(draw, number, known.shape[1]) for draw in range(len(known), draws)]
        return torch.cat([known, torch.stack(more).to(known)])

    def _mask(self, draw: int, number: int, width: int) -> Tensor:
        """Return the mask of a numbered draw and layer: 0 or 1/(1 - p), fixed by the numbers."""
        rate = self._rates[number]
        uniform = torch.special.ndtr(noise(f"mask/{draw}/{number}", torch.empty(width)))
        return (uniform >= rate) / (1 - rate)
