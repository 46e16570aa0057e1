"""The promotion gate against scipy's Beta, a planted label flip, and what it cannot see."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trustml.contracts import Split
from trustml.errors import BadInput, BadOption, BrokenClaim
from trustml.promotion import check_seal, promotion
from trustml.splits import data_hash

COUNT = 100


def answers(right: dict[int, int], classes: int = 3) -> tuple[Tensor, Tensor]:
    """Return logits and true classes: of 100 samples a class, so many are right."""
    y = torch.arange(classes).repeat_interleave(COUNT)
    place = torch.arange(COUNT).repeat(classes)
    wanted = torch.tensor([right.get(label, COUNT) for label in range(classes)])[y]
    answered = torch.where(place < wanted, y, (y + 1) % classes)
    return one_hot(answered, classes).float(), y


def test_the_chance_is_that_of_two_independent_betas() -> None:
    """A million draws of scipy's Beta say how often the recall fell by more than 5 points."""
    from scipy.stats import beta

    (before, y), (after, _) = answers({1: 96}), answers({1: 90, 2: 97})
    verdict = promotion(before, after, y, allowed=0.05)
    draw = np.random.default_rng(0)
    for change, (old, new) in zip(verdict.changes, ((100, 100), (96, 90), (100, 97)), strict=True):
        fell = beta(old + 1, 101 - old).rvs(10**6, random_state=draw) - beta(
            new + 1, 101 - new
        ).rvs(10**6, random_state=draw)
        assert change.chance == pytest.approx(float((fell > 0.05).mean()), abs=3e-3)
        assert change.before.value == old / 100
        assert change.after.low < change.after.value < change.after.high or new == 100


def test_flipped_labels_are_refused_and_a_backdoor_is_not() -> None:
    """Label flips cost the class a quarter of its recall; a backdoor costs a sample, and passes."""
    before, y = answers({2: 94})
    flipped = promotion(before, answers({2: 69})[0], y)
    assert [change.refused for change in flipped.changes] == [False, False, True]
    assert not flipped.promoted
    assert promotion(before, answers({2: 93})[0], y).promoted


def test_more_doubt_refuses_more() -> None:
    """A fall by 3 points may be one by more than 5: refused only by who refuses on a hunch."""
    (before, y), (after, _) = answers({0: 95}), answers({0: 92})
    assert promotion(before, after, y, doubt=0.5).promoted
    assert not promotion(before, after, y, doubt=0.1).promoted


def test_the_held_out_set_must_be_the_sealed_one() -> None:
    """One label changed is another set."""
    split = Split(torch.rand(4, 2), torch.tensor([0, 1, 2, 0]), torch.arange(4), 3)
    sealed = data_hash(split)
    check_seal(split, sealed)
    split.y[0] = 1
    with pytest.raises(BrokenClaim, match="not the sealed one"):
        check_seal(split, sealed)


def test_what_cannot_be_judged_is_refused_by_name() -> None:
    """One line with what is allowed."""
    logits, y = answers({})
    with pytest.raises(BadOption, match=r"allowed=1"):
        promotion(logits, logits, y, allowed=1.0)
    with pytest.raises(BadOption, match=r"doubt=0"):
        promotion(logits, logits, y, doubt=0.0)
    with pytest.raises(BadInput, match=r"no sample of class 2"):
        promotion(logits[:200], logits[:200], y[:200])
    with pytest.raises(BadInput, match=r"\(300, 3\) and \(200, 3\)"):
        promotion(logits, logits[:200], y)
