"""Threats: what they refuse, when an attacker has won, one epsilon a sample."""

import pytest
import torch

from trustml.errors import BadInput, UnknownName
from trustml.threats import Lp

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])


def test_untargeted_wins_with_any_other_class() -> None:
    """The answers are 0 and 1; the true labels 0 and 2: only the second is misread."""
    won = Lp("linf", 0.1).reached(LOGITS, torch.tensor([0, 2]))
    assert won.tolist() == [False, True]


def test_targeted_wins_with_the_wanted_class_alone() -> None:
    """The answers are 0 and 1; wanted are 0 and 2: only the first is reached."""
    won = Lp("linf", 0.1, targeted=True).reached(LOGITS, torch.tensor([0, 2]))
    assert won.tolist() == [True, False]


def test_contains_is_exact() -> None:
    """float32(0.1) is 0.100000001…, which is more than 0.1; the float below it is not."""
    x, moved = torch.zeros(1, 3), torch.full((1, 3), 0.1)
    assert not Lp("linf", 0.1).contains(moved, x)
    assert Lp("linf", 0.1).contains(torch.nextafter(moved, x), x)
    assert not Lp("linf", 9.0).contains(x - 1e-30, x)
    # The ball has its edge, and one of radius 0 its centre.
    assert Lp("linf", 0.25).contains(x + 0.25, x)
    assert Lp("l2", 0.0).contains(x, x)


def test_epsilons_follow_their_samples() -> None:
    """Rows 2 and 0 of (0.1, 0.2, 0.3) are 0.3 and 0.1."""
    threat = Lp("l2", torch.tensor([0.1, 0.2, 0.3]))
    part = threat.at(torch.tensor([2, 0]))
    assert part.budget(torch.zeros(2, 1, 4)).flatten().tolist() == pytest.approx([0.3, 0.1])
    assert part.budget(torch.zeros(2, 1, 4)).shape == (2, 1, 1)
    aimed = Lp("l1", torch.tensor([0.1, 0.2]), -1.0, 2.0, targeted=True).at(torch.tensor([1]))
    assert (aimed.norm, aimed.low, aimed.high, aimed.targeted) == ("l1", -1.0, 2.0, True)
    with pytest.raises(BadInput, match="3 epsilons were given for 2 samples"):
        threat.budget(torch.zeros(2, 4))


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), torch.tensor([0.1, float("nan")])])
def test_impossible_epsilons_are_refused(epsilon: float | torch.Tensor) -> None:
    """A ball has a radius of 0 or more."""
    with pytest.raises(BadInput, match="0 or more"):
        Lp("linf", epsilon)


def test_wrong_norms_shapes_and_boxes_are_refused() -> None:
    """Each is one clear line."""
    with pytest.raises(UnknownName, match="did you mean 'linf'"):
        Lp("lin", 0.1)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="shape"):
        Lp("linf", torch.zeros(2, 2))
    for low, high in ((1.0, 0.0), (0.0, 0.0), (0.0, float("inf"))):
        with pytest.raises(BadInput, match="box"):
            Lp("linf", 0.1, low, high)
