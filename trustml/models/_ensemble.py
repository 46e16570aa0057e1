"""Deep and bootstrap ensembles: networks from other first weights, and from other samples."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import zip_longest

import torch
from torch import Tensor, nn

from trustml.contracts import Epoch, Split, Training
from trustml.models._bayesian import log_mean_probability
from trustml.models._network import Network
from trustml.training import fit

# Between the seeds of two members; a large prime, so that neighbouring seeds share none.
SEED_STEP = 1_000_003


class Ensemble(nn.Module):
    """Networks that are trained apart; draw number s is member s, and round again."""

    def __init__(self, members: Sequence[Network], bootstrap: bool) -> None:
        """Take the members; with `bootstrap` each sees as many samples, drawn with replacement."""
        super().__init__()
        self.members, self.bootstrap = nn.ModuleList(members), bootstrap

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probability over the members, (B, K)."""
        return log_mean_probability(self.sample_logits(x, len(self.members)))

    def features(self, x: Tensor) -> Tensor:
        """Return what the heads read, side by side, (B, members · D)."""
        return torch.cat([member.features(x) for member in self._networks()], 1)

    def sample_logits(self, x: Tensor, draws: int) -> Tensor:
        """Return logits (S, B, K); there are no more different ones than members."""
        logits = [member(x) for member in self._networks()[:draws]]
        return torch.stack([logits[number % len(logits)] for number in range(draws)])

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Fit one member after the other; the curve is their mean."""
        curves = []
        for number, member in enumerate(self._networks()):
            own = seed + SEED_STEP * number
            part = train
            if self.bootstrap:
                order = torch.Generator().manual_seed(own)
                rows = torch.randint(len(train), (len(train),), generator=order)
                part = train.at(rows.to(train.x.device))
            curves.append(fit(member, part, validation, training, own))
        return [_mean([point for point in points if point]) for points in zip_longest(*curves)]

    def _networks(self) -> list[Network]:
        return [member for member in self.members if isinstance(member, Network)]


def _mean(points: Sequence[Epoch]) -> Epoch:
    """Return the mean point of the members that were still at it."""
    names = (field.name for field in fields(Epoch))
    return Epoch(*(sum(getattr(point, name) for point in points) / len(points) for name in names))
