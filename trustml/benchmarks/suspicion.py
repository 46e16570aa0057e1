"""A chain of front ends and a detector, learnt from clean outputs: outputs → suspicion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trustml.access import frozen
from trustml.benchmarks.setting import blaming
from trustml.contracts import Access, Outputs
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.recipes import Choice, choose, split_recipe
from trustml.registry import all_of

Scorer = Callable[[Outputs], Tensor]
# What a model must show so that this part of its outputs means something.
_NEEDS = {
    "logits": Access.PROBABILITIES,
    "draws": Access.GRADIENTS,
    "features": Access.GRADIENTS,
    "gradients": Access.GRADIENTS,
}
# A front end that asks the model anew changes no more of what is learnt from than this.
_ASKED = 2000


@dataclass(frozen=True, slots=True)
class Chain:
    """Front ends, first applied first, and the detector that scores what they return."""

    front_ends: tuple[Choice, ...]
    back_end: Choice

    @property
    def name(self) -> str:
        """What it is called."""
        return "+".join(choice.plugin.name for choice in self.choices)

    @property
    def text(self) -> str:
        """The canonical text with every option; it reads back as the same chain."""
        return "+".join(choice.text for choice in self.choices)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All of it, in order."""
        return (*self.front_ends, self.back_end)

    @property
    def reads(self) -> frozenset[str]:
        """What any of it reads of the outputs."""
        return frozenset(part for choice in self.choices for part in choice.plugin.facts["reads"])


def read_chain(text: str) -> Chain:
    """Return the chain of `front:key=value+…+detector:key=value`.

    A front end alone is followed by the detector that its paper scores with.

    Raises:
        UsageError: an unknown name or option, or detectors in an order that cannot work.
    """
    choices = [choose("detector", part) for part in split_recipe(text)]
    for choice in choices[:-1]:
        if not choice.plugin.facts["front_end"]:
            raise BadOption(
                f"{text!r}: {choice.plugin.name} scores, so that nothing can follow it; what "
                f"stands before + must change outputs, such as react+energy"
            )
    last = choices[-1].plugin.facts["front_end"]
    if last:
        choices.append(choose("detector", last))
    return Chain(tuple(choices[:-1]), choices[-1])


def check_shown(chain: Chain, shown: Access, *, aware: bool = False) -> None:
    """Check that a model shows what the chain reads of it, and the attack on it if it is aware.

    Raises:
        NotApplicable: it does not; the message names detectors that would do.
    """
    lacking = [part for part in chain.reads if _NEEDS.get(part, Access.LABELS) > shown]
    if lacking:
        able = [
            plugin.name
            for plugin in all_of("detector")
            if all(_NEEDS.get(part, Access.LABELS) <= shown for part in plugin.facts["reads"])
        ]
        raise NotApplicable(
            f"{chain.name} reads {' and '.join(sorted(lacking))}, and this model shows "
            f"{shown.name.lower()}; these would do: {', '.join(able) or 'none'}"
        )
    if aware and shown < Access.GRADIENTS:
        raise NotApplicable(
            f"--aware follows gradients, and this model shows {shown.name.lower()}: leave it out"
        )


def learnt(chain: Chain, module: nn.Module, train: Outputs, validation: Outputs) -> Scorer:
    """Return the scorer of the chain; its suspicions are as it gives them, unchecked.

    Raises:
        TrustError: a part of it does not suit the model, or breaks its contract.
    """
    changes: list[Callable[[Outputs], Outputs]] = []
    with frozen(module):
        for choice in chain.front_ends:
            with blaming(f"front end {choice.plugin.name}"):
                change = choice.plugin.function(module, train, validation, **choice.options)
                if "gradients" in choice.plugin.facts["reads"]:
                    train, validation = (
                        first(_read_of(part, chain), _ASKED) for part in (train, validation)
                    )
                train, validation = change(train), change(validation)
            changes.append(change)
        with blaming(f"detector {chain.back_end.plugin.name}"):
            scorer = chain.back_end.plugin.function(
                module, train, validation, **chain.back_end.options
            )

    def score(outputs: Outputs) -> Tensor:
        with frozen(module), blaming(f"detector {chain.name}"):
            if changes:
                outputs = _read_of(outputs, chain)
            for change in changes:
                outputs = change(outputs)
            return scorer(outputs)

    return score


def _read_of(outputs: Outputs, chain: Chain) -> Outputs:
    """Return the outputs without features where nobody reads them, so that none are made anew."""
    if "features" in chain.reads:
        return outputs
    return replace(outputs, features=outputs.features[:, :0])


def checked(scorer: Scorer) -> Scorer:
    """Return the scorer with its suspicions checked, in float64, on the CPU and without a graph."""

    def score(outputs: Outputs) -> Tensor:
        with torch.no_grad():
            return checked_suspicion(scorer(outputs), len(outputs.y))

    return score


def checked_suspicion(found: object, count: int) -> Tensor:
    """Return the suspicions (B,) in float64.

    Raises:
        MethodFailed: they are not one number a sample, or NaN.
    """
    if not isinstance(found, Tensor) or found.shape != (count,):
        said = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise MethodFailed(f"the scorer returned {said}, not one suspicion for each of {count}")
    if bool(found.isnan().any()):
        raise MethodFailed(f"{int(found.isnan().sum())} of {count} suspicions are NaN")
    return found.detach().cpu().to(torch.float64)


def first(outputs: Outputs, count: int) -> Outputs:
    """Return the first rows of the outputs."""
    return rows_of(outputs, slice(0, count))


def rows_of(outputs: Outputs, rows: slice | Sequence[int] | Tensor) -> Outputs:
    """Return the outputs of the given rows."""
    draws = None if outputs.draws is None else outputs.draws[:, rows]
    return Outputs(
        outputs.logits[rows], outputs.features[rows], outputs.x[rows], outputs.y[rows], draws
    )
