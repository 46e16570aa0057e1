"""Countermeasures by name: `rounded:decimals=2` is what a service does to every answer.

Several at once are joined by `+`, and masks act in that order: `rounded:decimals=2+account`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trustml import countermeasures as known
from trustml.countermeasures import Gate, Mask
from trustml.errors import UnknownName
from trustml.options import options_of, read_options, spec_text, split_spec
from trustml.recipes import split_recipe

# Distances within more inputs than this take longer than they are worth.
MOST_REFERENCES = 4000


@dataclass(frozen=True, slots=True, eq=False)
class Countermeasure:
    """Masks and gates for a Service; gates remember what was asked, so build one a service."""

    masks: tuple[Mask, ...] = ()
    gates: tuple[Gate, ...] = ()


def canonical(text: str) -> str:
    """Return the text with every option, in the order of the signature.

    Raises:
        UnknownName: no countermeasure or option of that name.
        BadOption: a value that is not allowed.
    """
    parts = [_read(part) for part in split_recipe(text)]
    for name, options in parts:  # values that are out of range are found now
        _MADE[name](torch.rand(2, 1), torch.Generator(), **options)
    return "+".join(spec_text(name, options) for name, options in parts)


def countering(text: str, ordinary: Tensor, seed: int) -> Countermeasure:
    """Return what a service needs; `ordinary` inputs (N, *S) are what it knows of its users.

    Raises:
        UnknownName: no countermeasure or option of that name.
        BadOption: a value that is not allowed.
    """
    masks: tuple[Mask, ...] = ()
    gates: tuple[Gate, ...] = ()
    for number, part in enumerate(split_recipe(text) if text else []):
        name, options = _read(part)
        random = torch.Generator().manual_seed(seed + number)
        made = _MADE[name](ordinary[:MOST_REFERENCES], random, **options)
        masks, gates = masks + made.masks, gates + made.gates
    return Countermeasure(masks, gates)


def masks_answers(text: str) -> bool:
    """Return whether it changes probabilities, so that logits cannot be answered beside it."""
    return bool(countering(text, torch.rand(2, 1), 0).masks)


def _read(text: str) -> tuple[str, Mapping[str, Any]]:
    name, raw = split_spec(text)
    if name not in _MADE:
        raise UnknownName.of("countermeasure", name, _MADE)
    return name, read_options(name, options_of(_MADE[name]), raw)


def _rounded(x: Tensor, random: torch.Generator, /, *, decimals: int = 2) -> Countermeasure:
    """Probabilities of so many decimals."""
    return Countermeasure(masks=(known.rounded(decimals),))


def _top_only(x: Tensor, random: torch.Generator, /) -> Countermeasure:
    """The highest probability, and 0 for the other classes."""
    return Countermeasure(masks=(known.top_only(),))


def _label_only(x: Tensor, random: torch.Generator, /) -> Countermeasure:
    """The label alone, as a probability of 1."""
    return Countermeasure(masks=(known.label_only(),))


def _noisy(x: Tensor, random: torch.Generator, /, *, sigma: float = 0.05) -> Countermeasure:
    """Probabilities with normal noise, cut at 0 and summed to one again; labels may change."""
    return Countermeasure(masks=(known.noisy(sigma, random),))


def _reverse_sigmoid(
    x: Tensor, random: torch.Generator, /, *, beta: float = 0.5, gamma: float = 0.2
) -> Countermeasure:
    """Probabilities bent by a reversed sigmoid (Lee et al. 2018, arXiv:1806.00054)."""
    return Countermeasure(masks=(known.reverse_sigmoid(beta, gamma),))


def _misinforming(
    x: Tensor, random: torch.Generator, /, *, threshold: float = 0.6, steepness: float = 50.0
) -> Countermeasure:
    """Misleading answers where the model is unsure (Kariyappa and Qureshi 2020, CVPR)."""
    return Countermeasure(masks=(known.misinforming(threshold, steepness),))


def _near_data(x: Tensor, random: torch.Generator, /, *, share: float = 0.01) -> Countermeasure:
    """Refuse queries farther from the training data than all but this share of its points."""
    return Countermeasure(gates=(known.near_data(x, share),))


def _account(x: Tensor, random: torch.Generator, /, *, queries: int = 1000) -> Countermeasure:
    """Close the account after so many queries."""
    return Countermeasure(gates=(known.account(queries),))


def _monitor(
    x: Tensor, random: torch.Generator, /, *, threshold: float = 0.95, refuses: bool = True
) -> Countermeasure:
    """PRADA: alarm if distances between queries are not normal (Juuti et al. 2019)."""
    return Countermeasure(gates=(known.Monitor(threshold, refuses=refuses),))


_MADE: dict[str, Callable[..., Countermeasure]] = {
    "rounded": _rounded,
    "top_only": _top_only,
    "label_only": _label_only,
    "noisy": _noisy,
    "reverse_sigmoid": _reverse_sigmoid,
    "misinforming": _misinforming,
    "near_data": _near_data,
    "account": _account,
    "monitor": _monitor,
}
NAMES = tuple(_MADE)
