"""A copy from explanations: a softmax regression in K of them, another network learnt from them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from trustml.asking import asked
from trustml.contracts import Access, Symmetry, Theft, Victim
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.registry import stealer
from trustml.stealing._copies import AffineCopy
from trustml.stealing._distillation import BATCH, LEAST_STEPS, Learnt, agreement, soft_labels
from trustml.stealing._synthetic import smooth
from trustml.symmetry import centred
from trustml.training import seeded, threads_for
from trustml.victim import least_access, least_budget

RATE = 3e-3
# Weight of the gradients beside the answers in the loss of a learnt copy.
SLOPES = 1.0


@stealer(
    source="Milli et al. 2019, FAT* (arXiv:1807.05185), section 3; learnt copies: Czarnecki et al. "
    "2017, NeurIPS (Sobolev training)",
    needs=Access.GRADIENTS,
)
def explanation_leak(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    queries: int = 500,
    checks: int = 4,
    epochs: int = 60,
) -> Theft:
    """Solve explanations for a softmax regression; if it is none, learn answers and gradients.

    A logit's gradient is that class's weights: K queries, one answered with each class. A
    probability's is p_c Σ_j (δ_cj − p_j) w_j: K − 1 independent queries give w up to a shift.

    Args:
        queries: at most; the softmax regression takes what it needs of them.
        checks: answers that the softmax regression must foretell.
        epochs: passes over the answers where the copy is learnt; more where they are few.

    Raises:
        NotApplicable: nothing is explained, less than probabilities is answered or they are
            rounded, or the budget is below K + 1 and the checks.
        BadOption: queries, checks or epochs below 1.
        MethodFailed: the training diverges.
    """
    if min(queries, checks, epochs) < 1:
        raise BadOption(f"queries={queries}, checks={checks}, epochs={epochs}: 1 or more each")
    least_access(victim, Access.GRADIENTS, "explanation_leak")
    least_access(victim, Access.PROBABILITIES, "explanation_leak")
    if victim.terms.decimals is not None:
        raise NotApplicable("explanation_leak needs unrounded probabilities beside the gradients")
    least = victim.domain.classes + checks
    least_budget(victim, least, "explanation_leak")
    notes = _Explained(victim, pool, int(min(max(queries, least), victim.left)), random)
    while notes.left >= checks:
        notes.ask(1 if len(notes.x) >= victim.domain.classes - 1 else victim.domain.classes - 1)
        table = notes.solved()
        if table is None:
            continue
        solved = len(notes.x)
        gap, allowed = notes.foretold(table, checks)
        if gap > allowed:
            return _learnt(notes, fresh, epochs, random, gap)
        certificate = {
            "softmax regression": True,
            "queries of the copy": solved,
            "check gap": gap,
            "check gap that rounding explains": allowed,
        }
        # A probability's gradient shows the weights up to a shift, whatever else is answered.
        told = (victim.terms.answers, victim.terms.explains) == (Access.LOGITS, "logit")
        up_to: Symmetry = "nothing" if told else "shift"
        return Theft(AffineCopy(victim.domain, table), certificate, len(notes.x), up_to)
    return _learnt(notes, fresh, epochs, random, math.inf)


class _Explained:
    """Inputs with answers and gradients; inputs come from the pool first, then from noise."""

    def __init__(self, victim: Victim, pool: Tensor, most: int, random: torch.Generator) -> None:
        self.victim, self.most, self.random = victim, most, random
        order = torch.randperm(len(pool), generator=random)[:most]
        made = smooth(victim.domain, max(0, most - len(order)), random)
        self._coming = torch.cat([pool[order], made])
        self.x = torch.zeros(0, *victim.domain.shape, dtype=torch.float64)
        self.gradients = self.x.clone()
        self.answers = torch.zeros(0, victim.domain.classes, dtype=torch.float64)

    @property
    def half(self) -> float:
        """Half of the precision's digits: solving may lose as many, and no more count as right."""
        return math.sqrt(torch.finfo(self.victim.dtype).eps)

    @property
    def left(self) -> int:
        """Queries that may still be asked."""
        return self.most - len(self.x)

    def ask(self, count: int) -> None:
        """Ask for the next `count` explanations."""
        x = asked(self._coming[len(self.x) :][:count].double(), self.victim)
        answers, gradients = self.victim.explain(x.to(self.victim.dtype))
        self.x = torch.cat([self.x, x])
        self.answers = torch.cat([self.answers, answers.double()])
        self.gradients = torch.cat([self.gradients, gradients.double()])

    @property
    def probabilities(self) -> Tensor:
        """The answers as probabilities (N, K)."""
        logits = self.victim.terms.answers == Access.LOGITS
        return self.answers.softmax(1) if logits else self.answers

    def heights(self) -> Tensor:
        """Return logits (N, K), or log-probabilities less their mean over classes."""
        if self.victim.terms.answers == Access.LOGITS:
            return self.answers
        return centred(self.answers.clamp_min(1e-300).log().T).T

    def solved(self) -> Tensor | None:
        """Return the table (K, D+1) of the softmax regression; None if too little is known yet."""
        slopes = self._slopes()
        if slopes is None:
            return None
        x, heights = self.x.flatten(1), self.heights()
        gauge = slopes if self._logits() else centred(slopes)
        rest = heights - x @ gauge.T
        if not self._logits():
            rest = centred(rest.T).T
        # Where probabilities are closest to each other their logarithms have lost least.
        flattest = int(self.probabilities.amin(1).argmax())
        return torch.cat([gauge, rest[flattest][:, None]], dim=1)

    def _logits(self) -> bool:
        terms = self.victim.terms
        return terms.answers == Access.LOGITS and terms.explains == "logit"

    def _slopes(self) -> Tensor | None:
        """Return the weights (K, D): read off, or solved for up to a shift."""
        classes, gradients = self.victim.domain.classes, self.gradients.flatten(1)
        answered = self.answers.argmax(1)
        one = torch.nn.functional.one_hot(answered, classes).double()
        if self.victim.terms.explains == "logit":
            if len(answered.unique()) < classes:
                return None
            firsts = [int((answered == k).nonzero()[0]) for k in range(classes)]
            return gradients[firsts]
        p = self.probabilities
        system = p.gather(1, answered[:, None]) * (one - p)
        sizes = torch.linalg.svdvals(system)
        if len(sizes) < classes - 1 or float(sizes[classes - 2]) < self.half * float(sizes[0]):
            return None
        return torch.linalg.pinv(system, rtol=0.1 * self.half) @ gradients

    def foretold(self, table: Tensor, checks: int) -> tuple[float, float]:
        """Return how wrongly the table foretells `checks` new answers, and what rounding allows."""
        before = len(self.x)
        self.ask(checks)
        told = (self.x[before:].flatten(1) @ table[:, :-1].T + table[:, -1]).softmax(1)
        gap = float((told - self.probabilities[before:]).abs().max())
        return gap, self.half


def _learnt(
    notes: _Explained,
    fresh: Callable[[], nn.Module],
    epochs: int,
    random: torch.Generator,
    gap: float,
) -> Theft:
    """Ask as much as one may; return fresh networks that learnt answers and gradients."""
    thefts: list[Theft] = []
    notes.ask(notes.left)
    labels = soft_labels(notes.victim, notes.answers)
    for part in (len(notes.x) // 4, len(notes.x) // 2, len(notes.x)):
        if part < 1:
            continue
        seed = int(torch.randint(2**31, (1,), generator=random))
        copy = _sobolev(notes, fresh, labels[:part], epochs, seed)
        certificate = {
            "softmax regression": False,
            "gap to a softmax regression": gap if math.isfinite(gap) else None,
            "agreement with the answers": agreement(copy, notes.x[:part], labels[:part]),
        }
        thefts.append(Theft(copy, certificate, part))
    return Theft(thefts[-1].copy, certificate, len(notes.x), "behaviour", tuple(thefts[:-1]))


def _sobolev(
    notes: _Explained, fresh: Callable[[], nn.Module], labels: Tensor, epochs: int, seed: int
) -> Learnt:
    """Return a network fitted to soft labels and to gradients, in units of their size."""
    x, slopes = notes.x[: len(labels)].float(), notes.gradients[: len(labels)].float()
    answered, size = labels.argmax(1, keepdim=True), slopes.square().mean().clamp_min(1e-12)
    logit = notes.victim.terms.explains == "logit"
    epochs = max(epochs, LEAST_STEPS // -(-len(x) // BATCH))
    with seeded(seed):
        network = fresh().train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.0)
        with threads_for(network, x[:BATCH]):
            network.train()
            for _ in range(epochs):
                for rows in torch.randperm(len(x)).split(BATCH):
                    part = x[rows].requires_grad_(True)
                    logits = network(part)
                    values = logits if logit else logits.softmax(1)
                    told = values.gather(1, answered[rows]).sum()
                    (slope,) = torch.autograd.grad(told, part, create_graph=True)
                    off = (slope - slopes[rows]).square().mean() / size
                    loss = -(labels[rows] * log_softmax(logits, 1)).sum(1).mean() + SLOPES * off
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
    if not all(bool(torch.isfinite(part).all()) for part in network.parameters()):
        raise MethodFailed("the copy's weights are no finite numbers after learning")
    network.zero_grad(set_to_none=True)
    return Learnt(network)
