"""Passes through a model, counted a sample and held to a budget."""

import torch
from torch import Tensor

from trustml.errors import BudgetSpent, MethodFailed


class Ledger:
    """Counts of passes for each sample; whole-batch calls stay on the host and cost nothing."""

    def __init__(self, samples: int, budget: int | None) -> None:
        self.samples, self.budget = samples, budget
        self.even = {"forward": 0.0, "backward": 0.0}
        self.uneven = {way: torch.zeros(samples, dtype=torch.float64) for way in self.even}
        # Passes of the same rows again and again are summed here first.
        self.rows: Tensor | None = None
        self.weight: Tensor | None = None
        self.pending = {"forward": 0, "backward": 0}

    def forward(self, count: int, rows: Tensor | None, weight: Tensor | None = None) -> None:
        """Count a pass forward of so many rows, a whole number of times those of `rows`.

        Rows of `weight` 0 only fill a block up and do not count.

        Raises:
            BudgetSpent: a sample has been asked about more often than its budget.
            MethodFailed: nobody said whose rows these are, while a budget is in force.
        """
        self._charge("forward", count, rows, weight)
        if self.budget is not None and float(self.forwards_now().max()) > self.budget:
            raise BudgetSpent(f"the budget is {self.budget} queries a sample; one more was asked")

    def backward(self, count: int, rows: Tensor | None, weight: Tensor | None = None) -> None:
        """Count a pass back."""
        self._charge("backward", count, rows, weight)

    def forwards_now(self) -> Tensor:
        """Return passes forward so far, a sample (B,)."""
        self._settle()
        return self.uneven["forward"] + self.even["forward"]

    def backwards_now(self) -> Tensor:
        """Return passes back so far, a sample (B,)."""
        self._settle()
        return self.uneven["backward"] + self.even["backward"]

    def _charge(self, way: str, count: int, rows: Tensor | None, weight: Tensor | None) -> None:
        if rows is None and count % self.samples == 0:
            self.even[way] += count // self.samples
        elif rows is not None and count % len(rows) == 0:
            if rows is not self.rows or weight is not self.weight:
                self._settle()
                self.rows, self.weight = rows, weight
            self.pending[way] += count // len(rows)
        elif self.budget is None:
            # Nobody said whose rows these are: the total stays right, the shares are even.
            self.even[way] += count / self.samples
        else:
            raise MethodFailed(
                f"{count} rows for {self.samples} samples cannot be counted against the "
                f"query budget; call model.at(rows)(x[rows]) to say whose rows they are"
            )

    def _settle(self) -> None:
        """Write what is pending to the samples."""
        for way, count in self.pending.items():
            if count and self.rows is not None:
                counts = self.uneven[way] = self.uneven[way].to(self.rows.device)
                each = torch.full_like(self.rows, count, dtype=counts.dtype)
                each = each if self.weight is None else each * self.weight
                counts.index_add_(0, self.rows, each)
        self.rows, self.weight, self.pending = None, None, dict.fromkeys(self.pending, 0)
