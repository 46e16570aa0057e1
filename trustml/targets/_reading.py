"""What a model's answers are: logits, probabilities or labels, of which classes, in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from trustml.contracts import Access, Domain, Interface
from trustml.deployment import only_count
from trustml.errors import BadInput, MethodFailed

# Probabilities rounded to few decimals sum to 1 no better than this.
_SUM = 0.02
# A class of probability 0 has this one, so that its logarithm is a number.
_LEAST = 1e-38
_LEVELS = {
    "logits": Access.LOGITS, "probabilities": Access.PROBABILITIES, "labels": Access.LABELS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model's own words become answers (B, K) in the order of the data's classes.

    Args:
        says: LOGITS, PROBABILITIES or LABELS.
        names: of the classes, in that order.
        order: which of the model's columns each class is in; empty if they are in order.
        single: whether the model gives one score, that of the second of two classes.
        numbers: the model's own names of the classes, where its labels are numbers of these.
    """

    says: Access
    names: tuple[str, ...]
    order: tuple[int, ...] = ()
    single: bool = False

    def answers(self, raw: Any) -> Tensor:
        """Return logits, probabilities, or one-hot labels (B, K).

        Raises:
            MethodFailed: the answer is not what the model's first answers were.
        """
        if self.says == Access.LABELS:
            return self._one_hot(raw)
        scores = first_tensor(raw)
        if isinstance(scores, Tensor):  # not where the model is traced for a certificate
            columns = 1 if self.single else len(self.names)
            if scores.dim() > 2 or scores.numel() != len(scores) * columns:
                raise MethodFailed(
                    f"the model answers {tuple(scores.shape)} now; when it was opened it answered "
                    f"{columns} numbers to each input"
                )
        if self.single:
            score = scores.reshape(-1, 1)
            other = torch.zeros_like(score) if self.says == Access.LOGITS else 1 - score
            scores = torch.cat([other, score], 1)
        return scores[:, list(self.order)] if self.order else scores

    def logits(self, raw: Any) -> Tensor:
        """Return logits (B, K), log probabilities, or one-hot labels."""
        answers = self.answers(raw)
        if self.says != Access.PROBABILITIES:
            return answers
        return answers.clamp_min(_LEAST).log()

    def _one_hot(self, raw: Any) -> Tensor:
        labels = _labels(raw)
        known = {name: number for number, name in enumerate(self.names)}
        strange = [label for label in labels if label not in known]
        if strange:
            raise MethodFailed(
                f"the model answered the label {strange[0]!r}; its classes are "
                f"{', '.join(self.names)}: name all of them, in the data's order, by classes=[…]"
            )
        found = torch.zeros(len(labels), len(self.names))
        rows = torch.arange(len(labels))
        found[rows, torch.tensor([known[label] for label in labels], dtype=torch.long)] = 1
        return found.to(raw.device) if isinstance(raw, Tensor) else found


def reading_of(
    raw: Any, domain: Domain | None, interface: Interface, own: Sequence[str], says: Access | None
) -> Reading:
    """Return how to read a model, from its answers to some inputs.

    Args:
        raw: the answers.
        domain: of the data, where they are known; it says how many classes there must be.
        interface: what the caller says of answers and classes.
        own: the model's names of its classes, in its order; empty where it has none.
        says: what the model is known to answer.

    Raises:
        BadInput: the answers are none of a classifier, or not what they are said to be.
    """
    if interface.answers != "auto":
        says = _LEVELS[interface.answers]
    if says is None and _are_labels(raw):
        says = Access.LABELS
    if says == Access.LABELS:
        names, _ = _in_order(interface.classes, own, _label_count(domain, interface, own))
        reading = Reading(Access.LABELS, names)
        try:
            reading.answers(raw)
        except MethodFailed as error:
            raise BadInput(str(error)) from error
        return reading
    scores = first_tensor(raw)
    if not scores.is_floating_point() or _are_labels(raw):
        raise BadInput(
            f"the model was said to answer {interface.answers}, and it answers labels: say "
            f"answers=labels"
        )
    single = scores.dim() == 1 or scores.shape[1:] == (1,)
    if scores.dim() > 2:
        raise BadInput(
            f"the model answers {tuple(scores.shape)} to {len(scores)} inputs: a classifier "
            f"answers (B, K)"
        )
    if not bool(scores.isfinite().all()):
        raise BadInput("the model answers NaN or infinity to ordinary inputs")
    columns = 2 if single else scores.shape[1]
    _check_count(columns, domain, interface, single)
    kind = _kind(scores, single, interface, says)
    names, order = _in_order(interface.classes, own, columns)
    return Reading(kind, names, order, single)


def first_tensor(raw: Any) -> Any:
    """Return the scores in what a model returns: a tensor, `.logits`, or the only tensor in it.

    Raises:
        BadInput: there is none, or more than one.
    """
    if isinstance(raw, Tensor | fx.Proxy):
        return raw
    if isinstance(getattr(raw, "logits", None), Tensor):
        return raw.logits
    if isinstance(raw, np.ndarray):
        raise BadInput(
            "the model answers a numpy array: return a torch tensor (B, K), such as "
            "torch.from_numpy(array)"
        )
    parts = list(raw.values()) if isinstance(raw, Mapping) else raw
    tensors = [part for part in parts if isinstance(part, Tensor)] if _is_list(parts) else []
    if len(tensors) != 1:
        raise BadInput(
            f"the model answers {type(raw).__name__} with {len(tensors)} tensors; a classifier "
            f"answers one, (B, K)"
        )
    return tensors[0]


def _kind(scores: Tensor, single: bool, interface: Interface, says: Access | None) -> Access:
    """Return LOGITS or PROBABILITIES, and refuse to be told what cannot be."""
    inside = bool(((scores >= 0) & (scores <= 1)).all())
    if single:
        if says is None:
            raise BadInput(
                "the model answers one number an input: say answers=probabilities if it is the "
                "probability of the second class, answers=logits if its log odds"
            )
        looks = inside if says == Access.PROBABILITIES else False
    else:
        looks = inside and bool(((scores.double().sum(1) - 1).abs() <= _SUM).all())
    if says == Access.LOGITS and looks:
        raise BadInput(
            f"answers=logits was said, and all {len(scores)} answers look like probabilities (0 to "
            f"1, with a sum of 1): say answers=probabilities"
        )
    if says == Access.PROBABILITIES and not looks:
        raise BadInput(
            f"the model should answer probabilities, and its answers reach from "
            f"{float(scores.min()):.3g} to {float(scores.max()):.3g} and do not sum to 1: say "
            f"answers=logits"
        )
    return Access.PROBABILITIES if looks else Access.LOGITS


def _check_count(columns: int, domain: Domain | None, interface: Interface, single: bool) -> None:
    said = len(interface.classes) if interface.classes else 0
    if said and columns != said:
        raise BadInput(f"classes= names {said} classes, and the model answers {columns}")
    if domain is not None and domain.classes and columns != domain.classes:
        one = " (one score, so two classes)" if single else ""
        raise BadInput(f"the model answers {columns} classes{one}; the data have {domain.classes}")


def _in_order(
    wanted: tuple[str, ...] | None, own: Sequence[str], count: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names of the classes, and in which of the model's columns each one is."""
    if len(set(wanted or ())) != len(wanted or ()):
        raise BadInput(f"classes={list(wanted or ())} names a class twice")
    if own and len(own) != count:
        raise BadInput(f"the model names {len(own)} classes and answers {count}")
    if wanted is None:
        return tuple(own) or tuple(map(str, range(count))), ()
    if not own or set(own) == set(wanted) or only_count(own):
        if set(own) != set(wanted) or tuple(own) == wanted:
            return wanted, ()
        return wanted, tuple(list(own).index(name) for name in wanted)
    raise BadInput(
        f"classes= names {', '.join(wanted)}; the model's own are {', '.join(own)}: name these, in "
        f"the order in which the data number them"
    )


def _label_count(domain: Domain | None, interface: Interface, own: Sequence[str]) -> int:
    """Return how many classes there are; labels alone do not tell."""
    known = [len(interface.classes or ()), domain.classes if domain else 0, len(own)]
    counts = {count for count in known if count}
    if not counts:
        raise BadInput(
            "the model answers labels, so it does not show how many classes it has: say "
            "classes=[a,b,c], or name the data"
        )
    if len(counts) > 1:
        raise BadInput(
            f"classes= names {known[0]} classes, the data have {known[1]}, the model names "
            f"{known[2]} (0: not known): they must be the same"
        )
    return counts.pop()


def _are_labels(raw: Any) -> bool:
    """Return whether answers are class numbers or names, one an input."""
    if isinstance(raw, Tensor):
        return not raw.is_floating_point() and raw.dim() == 1
    return _is_list(raw) and len(raw) > 0 and all(isinstance(part, str | int) for part in raw)


def _labels(raw: Any) -> list[str]:
    """Return labels as text: 3 and 3.0 are "3".

    Raises:
        MethodFailed: the answers are no labels.
    """
    if isinstance(raw, Tensor):
        flat = raw.reshape(-1) if raw.dim() == 1 or raw.shape[1:] == (1,) else None
        raw = flat.tolist() if flat is not None else None
    if not _is_list(raw) or not all(isinstance(part, str | int | float) for part in raw):
        raise MethodFailed("the model was said to answer labels, and it answers something else")
    return [
        str(int(part)) if isinstance(part, float) and part.is_integer() else str(part)
        for part in raw
    ]


def _is_list(raw: Any) -> bool:
    return isinstance(raw, Sequence) and not isinstance(raw, str)
