"""Inspections: a planted corner that is found, and margins in closed form."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Split
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.inspections.maximum_margin import margins, maximum_margin
from trustml.inspections.neural_cleanse import neural_cleanse, smallest
from trustml.randomness import keyed


class Backdoored(nn.Module):
    """Images (B, 1, 6, 6) → 4 logits: the brightness of each class's third; class 2 by a corner."""

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.width = low, high - low
        self.scale = nn.Parameter(torch.tensor(1.0))

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.low) / self.width
        thirds = torch.stack([part.flatten(1).mean(1) for part in x.split([2, 1, 1, 2], 2)], 1)
        logits = self.scale * 20 * thirds
        corner = 30 * x[:, 0, 5, 5]
        return logits + corner[:, None] * torch.tensor([0.0, 0, 1, 0])


class Silent(nn.Module):
    """A model whose answers have no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().flatten(1)[:, :4]


def clean(low: float = 0.0, high: float = 1.0, count: int = 40) -> Split:
    x = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    x[:, :, 5, 5] = 0.0
    y = torch.randint(4, (count,), generator=torch.Generator().manual_seed(1))
    return Split(low + (high - low) * x, y, torch.arange(count), 4, low, high)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.0, 4.0)])
def test_the_planted_corner_is_found(low: float, high: float) -> None:
    """Class 2 needs one pixel, the others a few of a row: it is the oddest, in any box."""
    split = clean(low, high)
    said = neural_cleanse(Backdoored(low, high), split, random=keyed(0, split.ids), steps=200)
    assert int(said.suspicion.argmax()) == 2
    assert float(said.suspicion[2] - said.suspicion[[0, 1, 3]].max()) > 2.0
    assert said.triggers is not None
    shown = (said.triggers[2, 0] - low) / (high - low)
    assert int(shown.argmax()) == 35, "the brightest place of the trigger is the corner"


def test_what_it_finds_does_what_it_says() -> None:
    """Laid on all clean inputs, each mask and pattern turn nearly all; the share is the mask's."""
    split, model = clean(), Backdoored()
    size, mask, pattern = smallest(
        model, split, keyed(0, split.ids), steps=150, samples=32, success=0.99
    )
    assert torch.allclose(size, mask.flatten(1).mean(1))
    for number in range(4):
        marked = split.x + mask[number] * (pattern[number] - split.x)
        turned = (model(marked).argmax(1) == number).double().mean()
        assert float(turned) > 0.9, number


def test_a_class_that_nothing_turns_into_is_the_least_suspicious() -> None:
    """Logits that ignore the input: no mask turns it into class 1, so it counts as a whole one."""

    class Fixed(Backdoored):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([9.0, 0, 0, 0]) + 0 * x.flatten(1).sum(1, keepdim=True)

    split = clean()
    said = neural_cleanse(Fixed(), split, random=keyed(0, split.ids), steps=5)
    assert said.suspicion[1:].tolist() == [0.0, 0.0, 0.0]
    assert float(said.suspicion[0]) > 1.0


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 3.0)])
def test_margins_of_a_linear_model_are_those_in_a_corner_of_the_box(
    low: float, high: float
) -> None:
    """Of two classes: Σ max(low·d, high·d) + b, where d is the difference of the weights."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    split = clean(low, high)
    split = Split(split.x, split.y % 2, split.ids, 2, low, high)
    found = margins(model, split, keyed(0, split.ids), steps=100, starts=3, rate=0.05)
    weight, bias = model[1].weight.detach(), model[1].bias.detach()
    for own, other in ((0, 1), (1, 0)):
        d = weight[own] - weight[other]
        truth = torch.maximum(low * d, high * d).sum() + bias[own] - bias[other]
        assert float(found[own]) == pytest.approx(float(truth), rel=1e-4)


def test_the_planted_corner_has_the_greatest_margin() -> None:
    """It adds up to 30 to class 2, where a third of the picture adds 20: log2 of their ratio."""
    split = clean()
    said = maximum_margin(Backdoored(), split, random=keyed(0, split.ids))
    assert int(said.suspicion.argmax()) == 2
    assert float(said.suspicion[2]) == pytest.approx(float(torch.tensor(50 / 20).log2()), abs=0.1)
    assert said.triggers is None


@pytest.mark.parametrize("look", [neural_cleanse, maximum_margin])
def test_what_cannot_be_inspected_is_named(look: Any) -> None:
    """No gradient, no clean input, options out of range: one line each."""
    split = clean()
    random = keyed(0, split.ids)
    with pytest.raises(NotApplicable, match="gradient"):
        look(Silent(), split, random=random)
    with pytest.raises(BadOption, match="steps=0"):
        look(Backdoored(), split, random=random, steps=0)
    none = split.at(slice(0, 0))
    with pytest.raises(BadInput, match="no clean"):
        look(Backdoored(), none, random=keyed(0, none.ids))


def test_neural_cleanse_wants_images() -> None:
    """It names the inspection that takes other inputs."""
    flat = Split(torch.rand(9, 5), torch.zeros(9).long(), torch.arange(9), 4)
    with pytest.raises(NotApplicable, match="maximum_margin"):
        neural_cleanse(Silent(), flat, random=keyed(0, flat.ids))
    with pytest.raises(BadOption, match="success"):
        neural_cleanse(Silent(), clean(), random=keyed(0, flat.ids), success=0.0)
