"""A chain of front ends and a detector, learnt from clean outputs: outputs → suspicion."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from torch import Tensor, nn

from trustml.access import frozen
from trustml.contracts import Outputs
from trustml.errors import BadOption
from trustml.gate import Scorer
from trustml.recipes import Choice, choose, split_recipe

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


def learnt(
    chain: Chain,
    module: nn.Module,
    train: Outputs,
    validation: Outputs,
    named: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Scorer:
    """Return the scorer of the chain; its suspicions are as it gives them, unchecked.

    Args:
        chain: what is to learn.
        module: whose outputs they are.
        train: outputs for what it has learnt from.
        validation: outputs for what it has not.
        named: what each part runs inside of, given its name: it may turn errors into others.

    Raises:
        TrustError: a part of it does not suit the model, or breaks its contract.
    """
    changes: list[Callable[[Outputs], Outputs]] = []
    with frozen(module):
        for choice in chain.front_ends:
            with named(f"front end {choice.plugin.name}"):
                change = choice.plugin.function(module, train, validation, **choice.options)
                if "gradients" in choice.plugin.facts["reads"]:
                    train, validation = (
                        first(_read_of(part, chain), _ASKED) for part in (train, validation)
                    )
                train, validation = change(train), change(validation)
            changes.append(change)
        with named(f"detector {chain.back_end.plugin.name}"):
            scorer = chain.back_end.plugin.function(
                module, train, validation, **chain.back_end.options
            )

    def score(outputs: Outputs) -> Tensor:
        with frozen(module), named(f"detector {chain.name}"):
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


def first(outputs: Outputs, count: int) -> Outputs:
    """Return the first rows of the outputs."""
    return rows_of(outputs, slice(0, count))


def rows_of(outputs: Outputs, rows: slice | Sequence[int] | Tensor) -> Outputs:
    """Return the outputs of the given rows."""
    draws = None if outputs.draws is None else outputs.draws[:, rows]
    return Outputs(
        outputs.logits[rows], outputs.features[rows], outputs.x[rows], outputs.y[rows], draws
    )
