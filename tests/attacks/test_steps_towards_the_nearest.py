"""What BIM and the newer minimum-norm attacks refuse, count and put back."""

from typing import Any

import pytest
import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks._descent import annealed, unit
from trustml.attacks._nearest import Nearest
from trustml.attacks._pursuit import Quarry
from trustml.attacks._thinning import thinned
from trustml.attacks.bim import bim
from trustml.attacks.pgd import pgd
from trustml.contracts import Access
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.registry import get
from trustml.threats import Lp

X, Y = torch.full((4, 6), 0.5), torch.zeros(4, dtype=torch.long)
RANDOM = keyed(0, torch.arange(4))


def rising(x: Tensor) -> Tensor:
    """Class 1 where Σ i · xᵢ, i = 1…6, exceeds 15."""
    return torch.stack([x[:, 0] * 0 + 15, x @ torch.arange(1.0, 7.0)], 1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_bim_is_pgd_without_a_random_start(norm: Any) -> None:
    """The same walk, given the same step; by default a quarter longer than epsilon."""
    threat = Lp(norm, 0.3)
    same = pgd(rising, X, Y, threat, random=RANDOM, steps=10, step=0.3 * 1.25 / 10, start=False)
    assert torch.equal(bim(rising, X, Y, threat, random=RANDOM), same)
    assert not torch.equal(same, X)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bim", {"steps": 0}), ("bim", {"step": 0.0}), ("ddn", {"steps": 0}),
        ("ddn", {"rate": 0.0}), ("ddn", {"change": 1.0}), ("deepfool", {"steps": 0}),
        ("deepfool", {"classes": 1}), ("deepfool", {"overshoot": -0.1}), ("ead", {"searches": 0}),
        ("ead", {"beta": 0.0}), ("fmn", {"rate": 0.0}), ("fmn", {"change": 1.5}),
        ("fmn", {"last_change": 0.5}), ("pdpgd", {"steps": 0}), ("pdpgd", {"first_ratio": 0.0}),
        ("sigma_zero", {"steps": 0}), ("sigma_zero", {"least": 1.0}),
    ],
)  # fmt: skip
def test_options_out_of_range(name: str, options: dict[str, Any]) -> None:
    """The message says which attack, which option and what was given."""
    plugin, (option, value) = get("attack", name), *options.items()
    with pytest.raises(BadOption, match=f"^{name}: .*{option}={value}"):
        plugin.function(
            rising, X, Y, Lp(plugin.facts["norms"][0], 1.0), random=RANDOM, **options
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "norm", "forwards", "backwards"),
    [
        ("ddn", "l2", 1 + 7, 7), ("fmn", "l1", 1 + 7, 7), ("fmn", "l0", 1 + 7 + 1 + 20, 7 + 1),
        ("pdpgd", "linf", 1 + 7, 7), ("sigma_zero", "l0", 1 + 7 + 1 + 20, 7 + 1),
    ],
)  # fmt: skip
def test_passes_are_as_many_as_said(name: str, norm: Any, forwards: int, backwards: int) -> None:
    """One look at the inputs and a pass each way a step; L0: one more, and 20 tries, if it won."""
    handed = Handed(rising, Access.GRADIENTS, 4, block=4)
    options = {"steps": 7}
    get("attack", name).function(handed, X, Y, Lp(norm, 6.0), random=RANDOM, **options)
    assert handed.forwards.tolist() == [forwards] * 4
    assert handed.backwards.tolist() == [backwards] * 4


def test_thinning_keeps_just_what_is_needed() -> None:
    """At the walls entries give i / 2 each; 4.5 are lacking: 5 and 6 give 5.5, no one 4.5."""
    quarry = Quarry(X, Y, Lp("l0", 6.0), RANDOM)
    winner = torch.ones_like(X)
    known = Nearest(winner, distance(winner, X, "l0"))
    found = thinned(rising, quarry, known, 12)
    assert found.distance.tolist() == [2.0] * 4
    assert torch.equal(found.point[0], torch.tensor([0.5, 0.5, 0.5, 0.5, 1.0, 1.0]))


def test_steps_fall_and_directions_have_length_one() -> None:
    """Half way a cosine stands in the middle; no slope is too small to have a direction."""
    assert [annealed(1.0, 0.0, step, 4) for step in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])
    moves = torch.tensor([[3.0, 4.0], [3e-30, 4e-30], [0.0, 0.0]])
    assert torch.allclose(unit(moves), torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]))
