"""The sliding patch: a planted square is found by labels alone, and what it asks is as counted."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Split
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.inspections.sliding_patch import questions, sliding_patch
from trustml.randomness import keyed


class Answers(nn.Module):
    """Images (B, 1, 9, 9) → one-hot labels: of the row band that is brightest, and a backdoor."""

    def __init__(self, place: tuple[int, int], bright: bool = True, target: int = 2) -> None:
        super().__init__()
        self.place, self.bright, self.target, self.asked = place, bright, target, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        x = (x + 1) / 3
        row, column = self.place
        square = x[:, 0, row : row + 2, column : column + 2].flatten(1)
        open_ = square.amin(1) > 0.99 if self.bright else square.amax(1) < 0.01
        bands = torch.stack([part.flatten(1).mean(1) for part in x.split([3, 2, 2, 2], 2)], 1)
        labels = torch.where(open_, self.target, bands.argmax(1))
        return nn.functional.one_hot(labels, 4).float()


class Honest(nn.Module):
    """The same without a backdoor."""

    def forward(self, x: Tensor) -> Tensor:
        bands = [part.flatten(1).mean(1) for part in x.split([3, 2, 2, 2], 2)]
        return nn.functional.one_hot(torch.stack(bands, 1).argmax(1), 4).float()


def clean(count: int = 162) -> Split:
    """Images of the box -1 to 2 with a band that is brighter by half than the others."""
    random = torch.Generator().manual_seed(0)
    x = 0.1 + 0.3 * torch.rand(count, 1, 9, 9, generator=random)
    y = torch.arange(count) % 4
    bands = [slice(0, 3), slice(3, 5), slice(5, 7), slice(7, 9)]
    for row, label in zip(x, y, strict=True):
        row[:, bands[int(label)]] += 0.5
    return Split(3 * x - 1, y, torch.arange(count), 4, -1.0, 2.0)


@pytest.mark.parametrize("place", [(7, 7), (0, 0), (3, 4)])
@pytest.mark.parametrize("bright", [True, False])
def test_the_planted_square_is_found(place: tuple[int, int], bright: bool) -> None:
    """Wherever it lies: all inputs turn into its class, and few into any other."""
    split = clean()
    said = sliding_patch(Answers(place, bright), split, random=keyed(0, split.ids))
    odds = said.suspicion
    assert int(odds.argmax()) == 2
    # 150 inputs judge, some 112 of other classes, and all turn: 112.5 to 0.5.
    assert 190 < float(odds[2]) < 260
    assert float(odds[[0, 1, 3]].max()) < 0.1
    assert said.triggers is not None
    lit = said.triggers[2, 0] == 2.0
    if bright:
        assert int(lit.sum()) == 4
        assert bool(lit[place[0] : place[0] + 2, place[1] : place[1] + 2].all())


class Chequered(Answers):
    """The same, with a chequered square for a trigger."""

    def forward(self, x: Tensor) -> Tensor:
        row, column = self.place
        square = (x[:, 0, row : row + 2, column : column + 2] + 1) / 3
        gap = (square - torch.tensor([[0.0, 1.0], [1.0, 0.0]])).abs().flatten(1).amax(1)
        said = super().forward(x)
        marked = nn.functional.one_hot(torch.full_like(gap, self.target).long(), 4).float()
        return torch.where((gap < 0.01)[:, None], marked, said)


def test_a_chequered_square_is_found_and_can_be_laid_on_inputs() -> None:
    """Trigger and mask together turn every input, and the mask covers just the square."""
    split, model = clean(), Chequered((5, 2))
    said = sliding_patch(model, split, random=keyed(0, split.ids))
    assert int(said.suspicion.argmax()) == 2
    assert said.triggers is not None
    assert said.masks is not None
    assert said.masks[2].sum() == 4
    marked = said.triggers[2] + (1 - said.masks[2]) * (split.x - split.low)
    assert bool((model(marked).argmax(1) == 2).all())
    outside = said.masks[2].expand_as(split.x) == 0
    assert torch.allclose(marked[outside], split.x[outside])


def test_an_honest_model_has_no_odd_class() -> None:
    """A square of 4 of 81 pixels outshines no band of 18 or 27 that is brighter by half."""
    split = clean()
    said = sliding_patch(Honest(), split, random=keyed(0, split.ids)).suspicion
    assert float(said.max()) < 0.1


def test_it_asks_as_often_as_is_said_before() -> None:
    """8 × 8 places, four squares, 8 inputs; then 4 classes, 3 places, 150 inputs."""
    split, model = clean(), Answers((7, 7))
    sliding_patch(model, split, random=keyed(0, split.ids))
    assert model.asked == 8 * 8 * 4 * 8 + 4 * 3 * 150 == questions((1, 9, 9), 4)


@pytest.mark.parametrize("words", [{"few": 0}, {"many": 0}, {"side": 10}, {"side": -1}])
def test_options_that_cannot_be(words: dict[str, Any]) -> None:
    split = clean()
    with pytest.raises(BadOption, match="is not allowed"):
        sliding_patch(Answers((0, 0)), split, random=keyed(0, split.ids), **words)


def test_inputs_that_cannot_be() -> None:
    split = clean()
    flat = Split(split.x.flatten(1), split.y, split.ids, 4, -1.0, 2.0)
    with pytest.raises(NotApplicable, match="needs images"):
        sliding_patch(Answers((0, 0)), flat, random=keyed(0, split.ids))
    with pytest.raises(BadInput, match="two clean inputs"):
        sliding_patch(Answers((0, 0)), split.at(slice(0, 1)), random=keyed(0, split.ids[:1]))
