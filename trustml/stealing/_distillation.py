"""Learnt copies: what a victim answered as soft labels, a loop that learns them, the curve.

Here answers are the only labels there are, so there is no validation split to stop early by: the
step falls along a cosine instead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from trustml.asking import asked
from trustml.contracts import Access, Theft, Victim
from trustml.errors import BadOption, MethodFailed, NotApplicable, Refused
from trustml.training import device_of, seeded, threads_for
from trustml.victim import least_budget

BATCH = 64
RATE = 1e-2
WARM_UP = 0.05
# Few answers are gone through more often, until so many steps are taken.
LEAST_STEPS = 1000


class Learnt(nn.Module):
    """A trained network that takes float32 and float64, and answers in the precision asked in."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap `network` and put it into evaluation mode."""
        super().__init__()
        self.network = network
        self.eval()

    def _own(self, x: Tensor) -> Tensor:
        kinds = [part.dtype for part in self.network.parameters()]
        return x.to(kinds[0]) if kinds else x

    def features(self, x: Tensor) -> Tensor:
        """Return what the network's head reads (B, D)."""
        features: Tensor = self.network.features(self._own(x))  # type: ignore[operator]
        return features.to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.network(self._own(x))
        return logits.to(x.dtype)


@dataclass(slots=True, eq=False)
class Notebook:
    """Queries x (N, *S) and the soft labels (N, K) that came back, and copies learnt on the way."""

    victim: Victim
    fresh: Callable[[], nn.Module]
    epochs: int
    random: torch.Generator
    before: int
    x: Tensor
    labels: Tensor
    thefts: list[Theft]
    stopped: str = ""

    def ask(self, x: Tensor) -> None:
        """Ask about as many rows of x (B, *S) as the budget allows, and write the answers down.

        Raises:
            Refused: before anything was answered; later the copies go with what there is.
        """
        if self.stopped:
            return
        x = x[: int(min(len(x), self.victim.left))]
        x = asked(x.double(), self.victim)
        try:
            answers = self.victim(x.to(self.victim.dtype))
        except Refused as error:
            if not len(self.x):
                raise
            self.stopped = str(error)
            return
        self.x = torch.cat([self.x, x.float()])
        self.labels = torch.cat([self.labels, soft_labels(self.victim, answers)])

    @property
    def queries(self) -> int:
        """How many were asked by this method."""
        return self.victim.queries - self.before

    def learn(self) -> Learnt:
        """Return a copy trained on all that was answered, and keep it for the curve."""
        if self.stopped and self.thefts:
            last = self.thefts[-1].copy
            assert isinstance(last, Learnt)
            return last
        seed = int(torch.randint(2**31, (1,), generator=self.random))
        copy = distilled(self.fresh, self.x, self.labels, self.epochs, seed)
        certificate = {"agreement with the answers": agreement(copy, self.x, self.labels)}
        self.thefts.append(Theft(copy, certificate, self.queries))
        return copy

    def theft(self, **facts: object) -> Theft:
        """Return the last copy with `facts` about it, and the earlier ones."""
        last = self.thefts[-1]
        if self.stopped:
            facts["stopped"] = self.stopped
        certificate = {**last.certificate, **{k.replace("_", " "): v for k, v in facts.items()}}
        return Theft(last.copy, certificate, last.queries, "behaviour", tuple(self.thefts[:-1]))


def notebook(
    victim: Victim, fresh: Callable[[], nn.Module], epochs: int, least: int, method: str,
    random: torch.Generator,
) -> Notebook:  # fmt: skip
    """Return an empty notebook.

    Raises:
        NotApplicable: fewer than `least` queries are left.
        BadOption: fewer than 1 epoch.
    """
    if epochs < 1:
        raise BadOption(f"epochs={epochs} is not allowed: it must be 1 or more")
    least_budget(victim, least, method)
    domain = victim.domain
    x, labels = torch.zeros(0, *domain.shape), torch.zeros(0, domain.classes)
    return Notebook(victim, fresh, epochs, random, victim.queries, x, labels, [])


def need_pool(pool: Tensor, least: int, method: str) -> None:
    """Return quietly where the pool holds `least` inputs.

    Raises:
        NotApplicable: it holds fewer.
    """
    if len(pool) < least:
        raise NotApplicable(
            f"{method} needs a pool of {least} inputs or more, and it has {len(pool)}: "
            f"data_free needs none"
        )


def soft_labels(victim: Victim, answers: Tensor) -> Tensor:
    """Return probabilities (B, K) float32 that say what the answers (B, K) say.

    What a top-1 probability leaves over is shared evenly by the other classes.
    """
    level = victim.terms.answers
    if level == Access.LOGITS:
        return answers.softmax(1).float()
    if level == Access.TOP1:
        top = answers.amax(1, keepdim=True)
        others = (1 - top) / (answers.shape[1] - 1)
        return torch.where(answers > 0, answers, others).float()
    # Rounded probabilities need not sum to one.
    return (answers / answers.sum(1, keepdim=True).clamp_min(1e-12)).float()


def distilled(
    fresh: Callable[[], nn.Module], x: Tensor, labels: Tensor, epochs: int, seed: int
) -> Learnt:
    """Return a fresh network that has learnt the soft labels (N, K) of x (N, *S).

    Raises:
        MethodFailed: the loss is not a number.
    """
    with seeded(seed):
        network = fresh()
        device = device_of(network)
        x, labels = x.to(device), labels.to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.0)
        batches = -(-len(x) // BATCH)
        epochs = max(epochs, LEAST_STEPS // batches)
        steps = epochs * batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _share((step + 1) / (steps + 1))
        )
        with threads_for(network, x[:BATCH]):
            network.train()
            for _ in range(epochs):
                for rows in torch.randperm(len(x)).split(BATCH):
                    if len(rows) == 1 < len(x):  # no batch statistics
                        continue
                    loss = -(labels[rows] * log_softmax(network(x[rows]), dim=1)).sum(1).mean()
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    schedule.step()
    if not all(bool(torch.isfinite(part).all()) for part in network.parameters()):
        raise MethodFailed("the copy's weights are no finite numbers after learning the answers")
    network.zero_grad(set_to_none=True)
    return Learnt(network)


def _share(place: float) -> float:
    """Return the share of the peak rate: up in a line, down along a cosine."""
    return min(1.0, place / WARM_UP) * 0.5 * (1 + math.cos(math.pi * place))


def agreement(copy: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Return the share of x (N, *S) where the copy's class is that of the labels (N, K)."""
    with torch.no_grad():
        return float((copy(x).argmax(1) == labels.argmax(1)).double().mean())
