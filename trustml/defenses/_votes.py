"""Several models that vote."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Epoch, Split, Training
from trustml.defenses._before import straight_through
from trustml.training import fit


class Votes(nn.Module):
    """Logits are the votes (B, K), with the mean probabilities' gradient; ties: the lowest class.

    Args:
        members: fresh models.
        parts: the training split → what each member learns from.
    """

    def __init__(self, members: list[nn.Module], parts: Callable[[Split], Sequence[Split]]) -> None:
        super().__init__()
        self.members, self.parts = nn.ModuleList(members), parts

    def forward(self, x: Tensor) -> Tensor:
        """Return how many members (B, K) vote for each class, as numbers with a gradient."""
        logits = torch.stack([member(x) for member in self.members])
        mean = logits.softmax(2).mean(0)
        return straight_through(_counts(logits), len(self.members) * mean, True)

    def votes(self, x: Tensor) -> Tensor:
        """Return how many members (B, K) vote for each class, int64."""
        with torch.no_grad():
            return _counts(torch.stack([member(x) for member in self.members])).long()

    def features(self, x: Tensor) -> Tensor:
        """Return the members' features side by side, (B, D)."""
        parts: list[Any] = list(self.members)
        return torch.cat([member.features(x).flatten(1) for member in parts], 1)

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Fit each member on its part, with a seed of its own; return the mean last epoch."""
        last = [
            fit(member, part, validation, training, seed + place)[-1]
            for place, (member, part) in enumerate(
                zip(self.members, self.parts(train), strict=True)
            )
        ]
        columns = zip(
            *[(e.train_loss, e.train_accuracy, e.validation_loss, e.validation_accuracy)
              for e in last],
            strict=True,
        )  # fmt: skip
        return [Epoch(*[sum(column) / len(last) for column in columns])]


def _counts(logits: Tensor) -> Tensor:
    """Return the votes (B, K) of logits (S, B, K)."""
    counts = torch.zeros_like(logits[0])
    votes = logits.argmax(2)
    return counts.scatter_add_(1, votes.T, torch.ones_like(votes.T, dtype=counts.dtype))
