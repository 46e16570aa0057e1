"""Honest models that a suspected one is compared with: of its recipe, its code, or another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import frozen, in_blocks
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.setting import blaming, placed
from trustml.contracts import Split
from trustml.errors import NotApplicable
from trustml.recipes import Choice, Recipe, read_recipe
from trustml.store import trained
from trustml.training import fit

CLEAN = 500  # validation samples that the inspector has; the model has not learnt from them
# A model that reads so much worse or better than the suspected one is another kind of model.
_WORSE = 0.1
# Of fewer classes none can be odd among the others.
_FEWEST = 5
# Models of other architectures differ by themselves: on digits, honest ones of another architecture
# are up to 2.1 times as odd as the oddest `cnn`, and backdoored ones 7 times and more.
_FAR = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Honest:
    """How honest models come about.

    Args:
        told: what they are, for a reader; equal texts, equal models.
        far: an alarm takes a model so many times as odd as the oddest of these; None where all are
            of one recipe, so that rank alone decides; else each model's classes are compared with
            its own median first.
        made: seed → the trained model, on the bench's device.
    """

    told: str
    far: float | None
    made: Callable[[int], nn.Module]


def honest_models(bench: Bench) -> Honest:
    """Return how honest models for the comparison are made.

    Those of `controls_of`, else of the model's own recipe; a deployed model's own code is trained
    anew where it is Python, and stands for any other is `cnn` for pictures, `mlp` for the rest.

    Raises:
        NotApplicable: the model has too few classes to be compared with models unlike it.
        UsageError: no such recipe.
    """
    own, other = bench.setting.recipe, bench.plan.controls_of
    if not other and not own.is_deployed:
        return _of_recipe(unweighted(own), None, bench)
    classes = bench.dataset.train.classes
    if classes < _FEWEST:
        raise NotApplicable(
            f"how it was trained is not known, and of {classes} classes none is odd among the "
            f"others: backdoors in deployed models are looked for among {_FEWEST} classes or more"
        )
    builder = getattr(bench.setting.module, "anew", None)
    if not other and not own.safeguards and builder is not None:
        with blaming(f"model {own.name}"):
            anew = builder(0)
        if anew is not None:
            return _of_code(builder, bench)
    recipe = read_recipe(other) if other else _usual(own, bench)
    alike = not own.is_deployed and recipe.text == unweighted(own).text
    return _of_recipe(recipe, None if alike else _FAR, bench)


def bystanders(bench: Bench) -> list[Callable[[int], nn.Module]]:
    """Return by kind how honest models are made that a trigger found elsewhere is shown to.

    These are the controls, and where those are of another architecture `mlp`, too: what is natural
    to a network without convolutions need not be so to one with them.

    Raises:
        NotApplicable: there are no honest models to compare with.
    """
    honest = honest_models(bench)
    if honest.far != _FAR:
        return [honest.made]
    guards = (guard.text for guard in bench.setting.recipe.safeguards)
    dense = _of_recipe(read_recipe("+".join(["mlp", *guards])), _FAR, bench)
    return [honest.made] if dense.told == honest.told else [honest.made, dense.made]


def clean_of(bench: Bench) -> Split:
    """Return the samples of the inspector's own."""
    return bench.dataset.validation.at(slice(0, CLEAN))


def unweighted(recipe: Recipe) -> Recipe:
    """Return the recipe, to be trained: without the file that its weights come from."""
    model = Choice(recipe.model.plugin, {**recipe.model.options, "weights": None})
    return Recipe(model, recipe.safeguards)


def _usual(own: Recipe, bench: Bench) -> Recipe:
    """Return what is trained in a deployed model's place, with the same guards before it."""
    first = "cnn" if len(bench.setting.split.domain.shape) == 3 else "mlp"
    return read_recipe("+".join([first, *(guard.text for guard in own.safeguards)]))


def _of_recipe(recipe: Recipe, far: float | None, bench: Bench) -> Honest:
    def made(seed: int) -> nn.Module:
        with blaming(f"model {recipe.name}"):
            module = placed(trained(recipe, bench.dataset, seed, bench.device).module, bench.device)
        if far is not None:
            _check(module, recipe.name, bench, other=True)
        return module

    return Honest(recipe.text, far, made)


def _of_code(builder: Callable[[int], Any], bench: Bench) -> Honest:
    """Return honest models of a Python factory's own architecture, trained as `cnn` or `mlp`."""
    recipe = _usual(bench.setting.recipe, bench)

    def made(seed: int) -> nn.Module:
        with blaming(f"model {bench.setting.recipe.name}"):
            module = builder(seed).to(bench.device)
            fit(module, bench.dataset.train, bench.dataset.validation, recipe.training, seed)
        module = placed(module, bench.device)
        _check(module, "its own code, trained anew,", bench)
        return module

    told = f"{bench.setting.recipe.text}, trained anew as {recipe.name} is"
    return Honest(told, 1.0, made)


def _check(module: nn.Module, name: str, bench: Bench, *, other: bool = False) -> None:
    """Check that an honest model reads about as well as the suspected one.

    Raises:
        NotApplicable: it does not, so that what differs says nothing of a backdoor.
    """
    clean = clean_of(bench).to(bench.device)
    its, own = (_right(one, clean.x, clean.y) for one in (module, bench.setting.module))
    if its < own - _WORSE:
        raise NotApplicable(
            f"honest models to compare with do not read well enough: {name} reads {its:.1%} of the "
            f"clean inputs rightly, the model {own:.1%}; name a better recipe by --controls-of"
        )
    # Another kind of model that reads much worse is easily turned without a backdoor: a tree, say.
    if other and its > own + _WORSE:
        raise NotApplicable(
            f"the model reads {own:.1%} of the clean inputs rightly, and honest ones to compare "
            f"with, {name}, {its:.1%}: it is another kind of model; name a recipe that reads as "
            f"it does by --controls-of"
        )


def _right(module: nn.Module, x: Tensor, y: Tensor) -> float:
    with frozen(module), torch.no_grad():
        return float((in_blocks(module, x).argmax(1) == y).double().mean())
