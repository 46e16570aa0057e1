"""What is asked of every explanation method alike, and what one method says to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.baselines import baseline_of
from trustml.benchmarks.explained import Explain, Explained
from trustml.benchmarks.explanation_cost import Passes
from trustml.contracts import Access, Classifier
from trustml.errors import MethodFailed, NotApplicable
from trustml.recipes import Choice

ROWS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Shuffled:
    """The same network after it learnt shuffled labels, and the share of them it gives back."""

    model: nn.Module
    fits: float


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked of every method alike: of this model, why these classes for these inputs?

    Args:
        model: in which the explanation is to be found.
        x: inputs (B, *S).
        target: classes to be explained (B,).
        background: training inputs (N, *S).
        bounds: lowest and highest value of an input.
        baseline: what inputs are compared with, where a method has no baseline of its own.
        shuffled: gives the same network trained on shuffled labels, or raises NotApplicable.
        pool: inputs (M, *S) that a thief asks about, if there is one.
        fresh: inputs on which its copy is compared with the model.
        seed: of everything that is drawn.
    """

    model: Classifier
    x: Tensor
    target: Tensor
    background: Tensor
    bounds: tuple[float, float] = (0.0, 1.0)
    baseline: str = "zero"
    shuffled: Callable[[], Shuffled] | None = None
    pool: Tensor | None = None
    fresh: Tensor | None = None
    seed: int = 0

    def point(self, name: str) -> Tensor:
        """Return the baseline of that name for each input (B, *S)."""
        return baseline_of(name, self.model, self.x, self.target, self.background)


@dataclass(frozen=True, slots=True, eq=False)
class Posed:
    """A question, a method, its maps, and the point that they are compared with."""

    question: Question
    method: Choice
    explained: Explained
    baseline: Tensor

    @property
    def influence(self) -> bool:
        """Whether the method's maps live in gradient space."""
        return bool(self.method.plugin.facts["influence"])

    @property
    def sees_gradients(self) -> bool:
        """Whether the method is handed a model with gradients."""
        return bool(self.method.plugin.facts["needs"] >= Access.GRADIENTS)

    def explain(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the method's maps of other inputs."""
        return explainer(self.method, self.question.model, self.question.background)(x, target)

    def explain_in(self, model: Any, x: Tensor, target: Tensor) -> Tensor:
        """Return the method's maps in another model."""
        return explainer(self.method, model, self.question.background)(x, target)


def explainer(
    method: Choice, model: Classifier, background: Tensor, passes: Passes | None = None
) -> Explain:
    """Return (x, target) → maps of the method, a few hundred rows at a time.

    A method that declares that it needs no gradients is handed a model that gives none, and what
    it asks is added to `passes`.
    """
    needs = method.plugin.facts["needs"]

    def explain(x: Tensor, target: Tensor) -> Tensor:
        maps = []
        for rows, wanted in zip(x.split(ROWS), target.split(ROWS), strict=True):
            handed = model if needs >= Access.GRADIENTS else Handed(model, needs, len(rows))
            maps.append(_called(method, handed, rows, wanted, background))
            if passes is not None and isinstance(handed, Handed):
                passes.forwards += int(handed.forwards.sum().round())
        return torch.cat(maps)

    return explain


def _called(
    method: Choice, model: Classifier, x: Tensor, target: Tensor, background: Tensor
) -> Tensor:
    name = method.plugin.name
    try:
        maps = method.plugin.function(model, x, target, background, **method.options)
    except (NotApplicable, MethodFailed):
        raise
    except Exception as error:  # a method may raise anything: it fails, the exam goes on
        raise MethodFailed(f"{name} raised {type(error).__name__}: {error}") from error
    if not isinstance(maps, Tensor) or maps.shape != x.shape or not bool(maps.isfinite().all()):
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise MethodFailed(f"{name} returned {shape}, not finite maps of shape {tuple(x.shape)}")
    return maps.detach()
