"""The way of an input to a model: range, mean, layout, colours, shape, held against plain torch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trustml.contracts import Domain, Interface
from trustml.errors import BadInput
from trustml.targets._inputs import preparation

PICTURES = Domain((3, 4, 5), 2)


def _prepared(
    x: torch.Tensor, domain: Domain = PICTURES, declared: Any = None, **words: Any
) -> Any:
    prepare, _ = preparation(domain, declared, Interface(**words))
    return prepare(x)


def test_range_mean_and_spread_are_those_of_torchvision() -> None:
    """(range first, then mean, then spread), as torchvision's Normalize after scaling by 255."""
    x = torch.rand(6, 3, 4, 5)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    of = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(_prepared(x, mean=mean, std=std), (x - of[0]) / of[1])
    torch.testing.assert_close(_prepared(x, input_range=(0.0, 255.0)), 255 * x)
    both = _prepared(x, input_range=(-1.0, 1.0), mean=(0.5,), std=(2.0,))
    torch.testing.assert_close(both, (2 * x - 1 - 0.5) / 2)
    wide = Domain((3, 4, 5), 2, -1.0, 3.0)
    torch.testing.assert_close(_prepared(4 * x - 1, wide, input_range=(0.0, 1.0)), x)


def test_layout_and_colours() -> None:
    """Channels last is a permutation; the shapes alone tell it where they can."""
    x = torch.rand(6, 3, 4, 5)
    last = x.permute(0, 2, 3, 1)
    assert torch.equal(_prepared(x, layout="last"), last)
    assert torch.equal(_prepared(x, declared=(4, 5, 3)), last)
    assert torch.equal(_prepared(x, declared=(None, None, 3)), last)
    assert torch.equal(_prepared(x, declared=(3, None, None)), x)
    assert torch.equal(_prepared(x, colours="bgr"), x[:, [2, 1, 0]])
    assert torch.equal(_prepared(x, declared=(60,)), x.flatten(1))
    assert torch.equal(_prepared(x, declared=(None,)), x.flatten(1))
    assert torch.equal(_prepared(x.flatten(1), Domain((60,), 2), (3, 4, 5)), x)
    grey = torch.rand(2, 1, 4, 5)
    assert torch.equal(_prepared(grey, Domain((1, 4, 5), 2), (4, 5)), grey[:, 0])


@pytest.mark.parametrize(
    ("words", "declared", "said"),
    [
        ({}, (3, 8, 8), r"takes inputs of shape \(3, 8, 8\), and the data have \(3, 4, 5\)"),
        ({}, (4, 3, 5), "takes inputs of shape"),  # as many numbers, but rows would be mixed
        ({"mean": (0.1, 0.2)}, None, "one number, or one for each of 3"),
        ({"std": (0.0,)}, None, "above 0"),
        ({"input_range": (1.0, 0.0)}, None, "the lower first"),
        ({"input_shape": (0,)}, None, "sizes above 0"),
    ],
)
def test_what_does_not_go_together_is_said(words: Any, declared: Any, said: str) -> None:
    """Each with what is allowed."""
    with pytest.raises(BadInput, match=said):
        preparation(PICTURES, declared, Interface(**words))


def test_without_data_the_model_must_say_its_shape(tmp_path: Path) -> None:
    """One clear question, whatever it is that lacks."""
    with pytest.raises(BadInput, match=r"does not say what shape.*input_shape=\[3,32,32\]"):
        preparation(None, None, Interface())
    with pytest.raises(BadInput, match=r"says only \(3, \?, \?\)"):
        preparation(None, (3, None, None), Interface())
    prepare, face = preparation(None, (32, 32, 3), Interface(layout="last"))
    assert face.shape == (3, 32, 32)
    assert prepare(torch.rand(2, 3, 32, 32)).shape == (2, 32, 32, 3)
