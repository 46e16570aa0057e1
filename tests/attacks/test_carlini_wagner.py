"""Carlini & Wagner: entries at the walls, logits of any scale, what it refuses."""

import pytest
import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks.carlini_wagner import carlini_wagner
from trustml.contracts import Access, Norm
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

Y = torch.zeros(4, dtype=torch.long)
RANDOM = keyed(0, torch.arange(4))
EVERYWHERE = float("inf")


def steep(x: Tensor, scale: float = 1.0) -> Tensor:
    """Class 1 where the sum of four entries, of which two count downwards, exceeds −1."""
    total = x[:, 0] + x[:, 1] - x[:, 2] - x[:, 3]
    return scale * torch.stack([total * 0 + 1, total + 2], 1)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 5.0)])
@pytest.mark.parametrize("shrink", [0.99, 0.999999])
def test_entries_at_the_walls_move(norm: Norm, low: float, high: float, shrink: float) -> None:
    """All entries stand at the walls, and each must go three eighths of the box: exactly known.

    Twice the sum of the entries, in sides, is −4 and must exceed −1: 1.5 sides in four parts.
    """
    side = high - low
    x = torch.tensor([[low, low, high, high]]).repeat(4, 1)

    def model(z: Tensor) -> Tensor:
        return steep((z - low) / side * 2)

    found = carlini_wagner(
        model, x, Y, Lp(norm, EVERYWHERE, low, high), random=RANDOM, shrink=shrink, rate=0.2
    )
    assert bool((model(found).argmax(1) == 1).all())
    assert bool((found != x).all())
    least = 1.5 * side / 4 * (2 if norm == "l2" else 1)
    far = distance(found, x, norm)
    assert bool((far >= least * (1 - 1e-6)).all())
    assert bool((far <= 1.1 * least).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_scale_of_the_logits_does_not_matter(norm: Norm) -> None:
    """A thousandth or a thousand times the logits are the same classes, found as near."""
    x = torch.rand(4, 4) * 0.3
    far = []
    for scale in (1e-3, 1.0, 1e3):

        def model(z: Tensor, scale: float = scale) -> Tensor:
            return steep(z - torch.tensor([1.0, 1.0, 0.0, 0.0]), scale)

        found = carlini_wagner(model, x, Y, Lp(norm, EVERYWHERE), random=RANDOM, steps=40)
        assert bool((model(found).argmax(1) == 1).all())
        far.append(distance(found, x, norm))
    assert torch.allclose(far[0], far[1], rtol=0.02)
    assert torch.allclose(far[2], far[1], rtol=0.02)


def test_passes_are_as_many_as_said() -> None:
    """One look at the inputs, then steps · searches forwards and backwards."""
    handed = Handed(steep, Access.GRADIENTS, 4, block=4)
    x = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(4, 1)
    carlini_wagner(handed, x, Y, Lp("l2", 1.0), random=RANDOM, steps=6, searches=3)
    assert handed.forwards.tolist() == [1 + 18] * 4
    assert handed.backwards.tolist() == [18] * 4


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"searches": 0},
        {"rate": 0.0},
        {"rate": -1.0},
        {"shrink": 1.0},
        {"shrink": 0.0},
    ],
    ids=str,
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    """The message says which and what was given."""
    with pytest.raises(BadOption, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        carlini_wagner(steep, torch.rand(4, 4), Y, Lp("l2", 1.0), random=RANDOM, **options)
