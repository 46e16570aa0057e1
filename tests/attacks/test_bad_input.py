"""What every attack says to models, inputs, labels and budgets that are not what they should be."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.beyond import threat
from trustml.contracts import Measure
from trustml.errors import BadInput, BadOption, MethodFailed, NotApplicable
from trustml.randomness import keyed
from trustml.registry import Plugin, all_of

ATTACKS = [pytest.param(plugin, id=plugin.name) for plugin in all_of("attack")]
SHORT = {"steps": 3, "queries": 20, "rounds": 1, "searches": 1}
SAMPLES, CLASSES = 5, 4


@dataclass(frozen=True)
class Call:
    """What an attack is called with."""

    model: Callable[[Tensor], Any]
    x: Tensor
    y: Tensor
    norm: Measure
    epsilon: float | Tensor = 0.05

    def make(self, plugin: Plugin) -> Tensor:
        """Call the attack, cut short."""
        known = {option.name for option in plugin.options}
        options = {name: value for name, value in SHORT.items() if name in known}
        random = keyed(0, torch.arange(len(self.x)))
        around = threat(self.norm, self.epsilon)
        return plugin.function(self.model, self.x, self.y, around, random=random, **options)


# Budgets of measures in which the usual one is not of the size of 0.05.
EPSILONS: dict[Measure, float] = {"l0": 2.0, "patch": 0.1, "spatial": 0.5, "colour": 5.0}


def healthy(plugin: Plugin) -> Call:
    """A linear model on images in the box, labelled by itself."""
    torch.manual_seed(0)
    norm = plugin.facts["norms"][0]
    x = torch.rand(SAMPLES, 3 if norm == "colour" else 1, 8, 8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), CLASSES))
    return Call(model, x, model(x).argmax(1), norm, EPSILONS.get(norm, 0.05))


ANSWERS: dict[str, Callable[[Tensor], Any]] = {
    "NaN": lambda logits: logits * torch.nan,
    "one column": lambda logits: logits[:, :1],
    "a row short": lambda logits: logits[:-1],
    "labels": lambda logits: logits.argmax(1),
    "a tuple": lambda logits: (logits,),
    "text": lambda logits: "cat",
}


@pytest.mark.parametrize("plugin", ATTACKS)
@pytest.mark.parametrize("what", list(ANSWERS))
def test_a_model_that_answers_so_is_told(plugin: Plugin, what: str) -> None:
    """A linear model whose answers are spoiled on their way out; labels 0 suit one column too."""
    call = healthy(plugin)
    spoiled = replace(
        call, model=lambda x: ANSWERS[what](call.model(x)), y=torch.zeros_like(call.y)
    )
    with pytest.raises((MethodFailed, NotApplicable)) as caught:
        spoiled.make(plugin)
    assert "\n" not in str(caught.value)
    assert "model" in str(caught.value)


INPUTS: dict[str, tuple[Callable[[Call], Call], str]] = {
    "8-bit inputs": (lambda c: replace(c, x=(c.x * 255).to(torch.uint8)), r"uint8.*/ 255"),
    "an input outside the box": (lambda c: replace(c, x=c.x * 3), r"outside the box \[0"),
    "an input of NaN": (lambda c: replace(c, x=c.x * torch.nan), "NaN"),
    "one-hot labels": (lambda c: replace(c, y=torch.eye(CLASSES)[c.y]), r"one-hot.*argmax\(1\)"),
    "labels as floats": (lambda c: replace(c, y=c.y.float()), "float32.*int64"),
    "labels too few": (lambda c: replace(c, y=c.y[:3]), r"\(3,\) were given for 5 inputs"),
    "a negative label": (lambda c: replace(c, y=c.y - 4), "begin at 0"),
    "a label of no class": (lambda c: replace(c, y=c.y + CLASSES), "has classes 0 to 3"),
    "epsilons too few": (lambda c: replace(c, epsilon=torch.ones(3)), "3 epsilons.* 5 samples"),
}


@pytest.mark.parametrize("plugin", ATTACKS)
@pytest.mark.parametrize("what", list(INPUTS))
def test_inputs_are_checked_before_anything_is_tried(plugin: Plugin, what: str) -> None:
    spoil, said = INPUTS[what]
    with pytest.raises(BadInput, match=said) as caught:
        spoil(healthy(plugin)).make(plugin)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("plugin", ATTACKS)
def test_a_norm_that_the_attack_lacks_is_refused(plugin: Plugin) -> None:
    """The message names those that it knows."""
    known = plugin.facts["norms"]
    for norm in {"linf", "l2", "l1", "l0"} - set(known):
        with pytest.raises(BadOption, match=f"does not know {norm}, just {', '.join(known)}"):
            replace(healthy(plugin), norm=norm).make(plugin)


@pytest.mark.parametrize("plugin", ATTACKS)
def test_a_goal_that_the_attack_lacks_is_refused(plugin: Plugin) -> None:
    if plugin.facts["targeted"]:
        pytest.skip("this attack can aim at a class")
    call = healthy(plugin)
    around = threat(call.norm, call.epsilon, targeted=True)
    with pytest.raises(BadOption, match="cannot aim"):
        plugin.function(call.model, call.x, call.y, around, random=keyed(0, call.y))


@pytest.mark.parametrize("plugin", ATTACKS)
def test_of_nobody_nobody_is_attacked(plugin: Plugin) -> None:
    call = healthy(plugin)
    none = replace(call, x=call.x[:0], y=call.y[:0]).make(plugin)
    assert none.shape == call.x[:0].shape
