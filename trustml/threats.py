"""Threats: what an attacker may do to an input, and when it has won."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast, get_args

import torch
from torch import Tensor

from trustml.contracts import Attack, Norm, Threat
from trustml.errors import BadInput, BadOption, MethodFailed, UnknownName
from trustml.geometry import distance, like, project

A = TypeVar("A", bound=Attack)


@dataclass(frozen=True, slots=True, eq=False)
class Lp:
    """Move x by at most epsilon in an Lp norm, staying in the box [low, high].

    Args:
        norm: "linf", "l2", "l1" or "l0" (the number of entries that change).
        epsilon: one number, or one a sample (B,); infinity leaves just the box.
        targeted: the labels given with the inputs are wanted, not true.

    Raises:
        UnknownName: there is no such norm.
        BadInput: an epsilon that is negative or NaN, or a box that is empty.
    """

    norm: Norm
    epsilon: float | Tensor
    low: float = 0.0
    high: float = 1.0
    targeted: bool = False

    def __post_init__(self) -> None:
        """Check the numbers once, so that nothing downstream has to."""
        if self.norm not in get_args(Norm):
            raise UnknownName.of("norm", str(self.norm), get_args(Norm))
        check_budget(self.epsilon, self.low, self.high)

    def budget(self, x: Tensor, /) -> Tensor:
        """Return epsilon in float64, shaped (B, 1, …) to broadcast over x (B, *S).

        Raises:
            BadInput: one epsilon a sample was given, for another number of samples.
        """
        return spread(self.epsilon, x)

    def project(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return the nearest allowed points (B, *S), exactly inside ball and box."""
        return project(candidate, x, self.norm, self.budget(x), (self.low, self.high))

    def contains(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return (B,) whether each candidate is inside ball and box, computed in float64."""
        flat = candidate.flatten(1)
        boxed = ((flat >= self.low) & (flat <= self.high)).all(1)
        return boxed & (distance(candidate, x, self.norm) <= self.budget(x).flatten())

    def reached(self, logits: Tensor, y: Tensor, /) -> Tensor:
        """Return (B,) whether the answer to logits (B, K) is what the attacker wants.

        Raises:
            MethodFailed: the model's answers are not (B, K) with two classes or more.
        """
        check_answers(logits, len(y))
        answers = logits.argmax(1)
        return answers == y if self.targeted else answers != y

    def at(self, rows: Tensor, /) -> "Lp":
        """Return the threat of the given rows."""
        if not isinstance(self.epsilon, Tensor):
            return self
        return Lp(self.norm, self.epsilon[rows], self.low, self.high, self.targeted)


def check_budget(epsilon: float | Tensor, low: float, high: float) -> None:
    """Check an epsilon, one number or one a sample, and a box.

    Raises:
        BadInput: it is negative or NaN, or the box is empty.
    """
    if isinstance(epsilon, Tensor) and epsilon.dim() != 1:
        raise BadInput(f"epsilon per sample must have shape (B,), not {tuple(epsilon.shape)}")
    if not bool((torch.as_tensor(epsilon) >= 0).all()):
        raise BadInput(f"epsilon must be 0 or more, not {epsilon}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadInput(f"the box [{low}, {high}] is empty or not finite")


def spread(epsilon: float | Tensor, x: Tensor) -> Tensor:
    """Return epsilon in float64, shaped (B, 1, …) or a scalar, to broadcast over x (B, *S).

    Raises:
        BadInput: one epsilon a sample was given, for another number of samples.
    """
    if not isinstance(epsilon, Tensor):
        return torch.full((), epsilon, dtype=torch.float64, device=x.device)
    if len(epsilon) != len(x):
        raise BadInput(f"{len(epsilon)} epsilons were given for {len(x)} samples")
    return like(epsilon.to(x.device, torch.float64), x)


def guarded(function: A, facts: Mapping[str, Any]) -> A:
    """Return the attack with a check of what it is given in front of it."""
    name = getattr(function, "__name__", "the attack")

    @wraps(function)
    def checked(model: Any, x: Any, y: Any, threat: Any, /, **options: Any) -> Any:
        _check_given(name, facts, x, y, threat)
        if not len(x):
            return x.clone()
        return function(model, x, y, threat, **options)

    return cast(A, checked)


def check_answers(answers: object, count: int) -> None:
    """Check that a model's answers are (B, K) with two classes or more.

    Raises:
        MethodFailed: they are anything else.
    """
    if not isinstance(answers, Tensor) or answers.dim() != 2 or len(answers) != count:
        shape = tuple(answers.shape) if isinstance(answers, Tensor) else type(answers).__name__
        raise MethodFailed(f"the model answered {shape} to {count} inputs; expected ({count}, K)")
    if answers.shape[1] < 2:
        raise MethodFailed(
            f"the model answered one column to {count} inputs; a classifier gives one logit a "
            "class: of a single logit z give torch.cat([0 * z, z], 1)"
        )


def check_readable(answers: Tensor, y: Tensor) -> None:
    """Check once what costs a look at the device: no NaN, and a class for every label.

    Raises:
        MethodFailed: the model answers NaN.
        BadInput: a label that is none of the model's classes.
    """
    check_answers(answers, len(y))
    if bool(answers.isnan().any()):
        raise MethodFailed("the model answers NaN to allowed inputs; no attack can judge that")
    check_labels(answers, y)


def check_labels(answers: Tensor, y: Tensor) -> None:
    """Check that the labels are classes of the model that answered so (B, K).

    Raises:
        BadInput: one is none of them.
    """
    if len(y) and int(y.max()) >= answers.shape[1]:
        raise BadInput(f"label {int(y.max())}: the model has classes 0 to {answers.shape[1] - 1}")


def _check_given(name: str, facts: Mapping[str, Any], x: Tensor, y: Tensor, threat: Threat) -> None:
    """Check what an attack of these facts is given, before it begins.

    Raises:
        BadInput: inputs, labels or budgets that are not what they should be.
        BadOption: a norm or a goal that the attack does not know.
    """
    if threat.norm not in facts["norms"]:
        raise BadOption(f"{name} does not know {threat.norm}, just {', '.join(facts['norms'])}")
    if threat.targeted and not facts["targeted"]:
        raise BadOption(f"{name} cannot aim at a class; give it an untargeted threat")
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise BadInput(
            f"inputs are {kind}; give a floating tensor in [{threat.low}, {threat.high}], of 8-bit "
            "pixels x.float() / 255"
        )
    if threat.targeted and y is None:
        raise BadInput(
            f"{name} was given a targeted threat and no classes to reach: give the wanted class of "
            "each input (B,) as int64 in place of the true ones"
        )
    _check_class_numbers(y, len(x))
    threat.budget(x)
    low, high = torch.tensor([threat.low, threat.high], dtype=x.dtype).tolist()
    if not bool(((x >= low) & (x <= high)).all()):
        raise BadInput(
            f"inputs are NaN or outside the box [{threat.low}, {threat.high}]; scale them, or give "
            "the threat the box that they live in"
        )


def _check_class_numbers(y: Tensor, count: int) -> None:
    if isinstance(y, Tensor) and y.dim() == 2:
        raise BadInput(f"labels of shape {tuple(y.shape)} look one-hot: give y.argmax(1)")
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise BadInput(f"labels are {kind}; give class numbers (B,) as int64: y.long()")
    if tuple(y.shape) != (count,):
        raise BadInput(f"labels of shape {tuple(y.shape)} were given for {count} inputs")
    if count and int(y.min()) < 0:
        raise BadInput(f"label {int(y.min())}: class numbers begin at 0")
