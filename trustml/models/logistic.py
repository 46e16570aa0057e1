"""Softmax regression, fitted by one of four solvers; what it learns lies in one linear layer."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from trustml.contracts import Domain, Epoch, Split, Training
from trustml.errors import BadOption, MethodFailed
from trustml.models._softmax_regression import SOLVERS, Problem
from trustml.progress import progress
from trustml.registry import model
from trustml.training import evaluate

TRAINING = Training(epochs=100, batch_size=64, learning_rate=0.5)


@model(source="Cox 1958, JRSS B 20; Böhning 1992 (bound of the step)", training=TRAINING)
def logistic(
    domain: Domain,
    /,
    *,
    solver: Literal["torch", "sklearn", "numpy", "keras"] = "torch",
    l2: float = 3e-4,
) -> nn.Module:
    """Softmax regression with penalty l2/2 · ‖W‖²; L-BFGS (torch, sklearn) or SGD (numpy, keras).

    Raises:
        BadOption: an l2 below 0.
    """
    if not (math.isfinite(l2) and l2 >= 0):
        raise BadOption(f"logistic: l2={l2} is not allowed: it must be 0 or more")
    return Logistic(domain, solver, l2)


class Logistic(nn.Module):
    """One linear layer over the flattened input, which fits itself."""

    def __init__(self, domain: Domain, solver: str, l2: float) -> None:
        super().__init__()
        self.solver, self.l2 = solver, l2
        self.head = nn.Linear(math.prod(domain.shape), domain.classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the flattened inputs (B, D)."""
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Solve for the weights; one entry of the curve for each state that the solver shows.

        Raises:
            BadOption: a training option that the solvers have no use for.
            MissingPackage: solver=keras without Keras.
            MethodFailed: the weights are not finite.
        """
        for name in ("weight_decay", "optimizer", "patience"):
            if getattr(training, name) != getattr(TRAINING, name):
                raise BadOption(f"logistic has no use for {name}: set l2 and epochs instead")
        problem = Problem(
            train.x.flatten(1), train.y, self.head.out_features, self.l2, training, seed
        )
        curve = []
        with progress(f"logistic by {self.solver}", training.epochs) as advance:
            for weight, bias in SOLVERS[self.solver](problem):
                with torch.no_grad():
                    self.head.weight.copy_(weight)
                    self.head.bias.copy_(bias)
                curve.append(Epoch(*evaluate(self, train), *evaluate(self, validation)))
                advance(1)
        if not math.isfinite(curve[-1].train_loss):
            raise MethodFailed(f"logistic by {self.solver} left the finite numbers: raise l2")
        return curve
