"""What was chosen by text: `pgd:steps=40` a plugin, `mlp:hidden=[64]+abstain` a guarded model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from trustml.contracts import Stage, Training
from trustml.deployment import recognised
from trustml.errors import BadOption, NotApplicable, UnknownName
from trustml.options import places_outside, read_options, spec_text, split_spec
from trustml.registry import Plugin, get, names

STAGES: tuple[Stage, ...] = get_args(Stage)
TRAINING_OPTIONS = tuple(field.name for field in fields(Training))


@dataclass(frozen=True, slots=True)
class Choice:
    """A plugin and all its options, defaults included."""

    plugin: Plugin
    options: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The canonical text: every option, in the signature's order; it reads back as the same."""
        return spec_text(self.plugin.name, self.options)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model, how it is fitted, and the safeguards around it: of data, training, then serving."""

    model: Choice
    safeguards: tuple[Choice, ...] = ()

    @property
    def name(self) -> str:
        """The model's name, and those of its safeguards."""
        return "+".join(choice.plugin.name for choice in (self.model, *self.safeguards))

    @property
    def text(self) -> str:
        """The canonical text with every option; it reads back as the same recipe."""
        return "+".join(choice.text for choice in (self.model, *self.safeguards))

    @property
    def own(self) -> dict[str, Any]:
        """The options that the model's builder takes."""
        theirs = set() if self.is_deployed else {*TRAINING_OPTIONS, "weights"}
        return {name: value for name, value in self.model.options.items() if name not in theirs}

    @property
    def is_deployed(self) -> bool:
        """Whether the model is there already, behind a target: it is opened, never trained."""
        return self.model.plugin.kind == "target"

    @property
    def training(self) -> Training:
        """How the model is fitted."""
        return Training(**{name: self.model.options[name] for name in TRAINING_OPTIONS})

    @property
    def weights(self) -> str | None:
        """The file that its weights come from, if it is not to be trained."""
        path: str | None = None if self.is_deployed else self.model.options["weights"]
        return path

    def at(self, stage: Stage) -> tuple[Choice, ...]:
        """Return the safeguards of one stage, the first to act first."""
        return tuple(c for c in self.safeguards if c.plugin.facts["stage"] == stage)


def choose(kind: str, text: str) -> Choice:
    """Return the plugin of the kind and its options, read from `name:key=value,key=value`.

    Raises:
        UnknownName: no plugin or option of that name.
        BadOption: a value that cannot be read.
        UsageError: the plugin's package does not load.
    """
    name, raw = split_spec(text)
    plugin = get(kind, name)
    return Choice(plugin, read_options(name, plugin.options, raw))


def read_recipe(text: str) -> Recipe:
    """Return the recipe of `model:key=value+safeguard:key=value+…`.

    Raises:
        UnknownName: no model, safeguard or option of that name.
        BadOption: a value that cannot be read, a `+` with nothing on one side, or safeguards that
            cannot work in this order or on this model.
        UsageError: a plugin's package does not load.
    """
    first, *rest = split_recipe(text)
    recipe = Recipe(_model(first), tuple(choose("safeguard", part) for part in rest))
    _check_safeguards(recipe)
    return recipe


def _model(text: str) -> Choice:
    """Return the model that is to be trained, or the target that reaches a deployed one.

    Raises:
        UsageError: there is neither.
    """
    if text.partition(":")[0].strip() in names("model"):
        return choose("model", text)
    target = recognised(text)
    if target is not None:
        return choose("target", target)
    try:
        return choose("model", text)
    except UnknownName as error:
        raise UnknownName(
            f"{error}. A deployed model is named by its file or address: trustml list target"
        ) from error


def brief(recipe: Recipe) -> str:
    """Return the shortest text that reads back as the recipe: only options that are no defaults."""
    return "+".join(brief_choice(choice) for choice in (recipe.model, *recipe.safeguards))


def brief_choice(choice: Choice) -> str:
    """Return the shortest text that reads back as the choice: only options that are no defaults."""
    usual = {option.name: option.default for option in choice.plugin.options}
    own = {n: value for n, value in choice.options.items() if value != usual.get(n, choice)}
    return spec_text(choice.plugin.name, own)


def of_a_copy(recipe: Recipe) -> Recipe:
    """Return what a copy of the model is learnt by: its own recipe, or `mlp` if it is deployed."""
    return read_recipe("mlp") if recipe.is_deployed else recipe


def check_trainable(recipe: Recipe) -> None:
    """Check that models of the recipe can be trained, as an exam needs that compares with others.

    Raises:
        NotApplicable: it is a deployed model, which is there once and cannot be trained anew.
    """
    if recipe.is_deployed:
        raise NotApplicable(
            f"{recipe.name} is deployed: how it was trained is not known, so that no other model "
            f"can be trained like it"
        )


def split_recipe(text: str) -> list[str]:
    """Split at each `+` that is outside brackets and quotes, and not of a number like 1e+3.

    Raises:
        BadOption: a `+` with nothing on one side, or a bracket or quote without a partner.
    """
    parts, start = [], 0
    for place in places_outside(text, "+"):
        in_number = re.search(r"[\d.][eE]$", text[start:place]) and text[place + 1 :][:1].isdigit()
        if not in_number:
            parts.append(text[start:place])
            start = place + 1
    parts = [part.strip() for part in (*parts, text[start:])]
    if not all(parts):
        raise BadOption(
            f"{text!r} is no recipe; write model:key=value, then +safeguard:key=value for each"
        )
    return parts


def _check_safeguards(recipe: Recipe) -> None:
    """Refuse a safeguard that would come too late, or once more.

    Raises:
        BadOption: none twice with the same options; data ones must precede training ones, and
            these serving ones; what monitors is no part of a model; and nothing is trained where
            the weights come from a file.
    """
    if watching := recipe.at("monitoring"):
        name = watching[0].plugin.name
        raise BadOption(
            f"{recipe.name}: {name} watches the scanner and the items, so it is no part of a "
            f"model: leave it out here, and give --route scanner --defense {name}"
        )
    texts = [choice.text for choice in recipe.safeguards]
    if twice := [text for number, text in enumerate(texts) if text in texts[:number]]:
        raise BadOption(
            f"{recipe.name}: {split_spec(twice[0])[0]} stands there twice with the same options: "
            f"leave one out, or give them other options"
        )
    ordered = [choice for stage in STAGES for choice in recipe.at(stage)]
    if tuple(ordered) != recipe.safeguards:
        names = "+".join(choice.plugin.name for choice in (recipe.model, *ordered))
        raise BadOption(
            f"{recipe.name}: safeguards act on the data, then in training, then in serving; "
            f"in an order that can work it is {names}"
        )
    late = [choice.plugin for stage in STAGES[:2] for choice in recipe.at(stage)]
    if recipe.is_deployed and late:
        raise BadOption(
            f"{recipe.name}: {late[0].name} acts before or in training, and a deployed model is "
            f"trained already: leave it out"
        )
    if recipe.weights is not None and late:
        raise BadOption(
            f"{recipe.name}: {late[0].name} acts before or in training, and weights="
            f"{recipe.weights} are trained already: leave out weights=, or {late[0].name}"
        )
