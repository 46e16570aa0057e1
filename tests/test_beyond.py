"""Threats beyond the norms: what they refuse, and what all of them keep to."""

import pytest
import torch

from trustml.beyond import RULERS, Beyond, check_epsilon, drawn, threat, widest
from trustml.errors import BadInput, NotApplicable, UnknownName
from trustml.randomness import keyed
from trustml.threats import Lp

SMALL = {"patch": 0.1, "spatial": 0.4, "colour": 4.0, "structure": 0.05, "wasserstein": 0.1,
         "flow": 0.3}  # fmt: skip

CHANNELS = {"flow": 1}


def test_a_norm_is_a_ball() -> None:
    assert isinstance(threat("l2", 1.0), Lp)
    assert isinstance(threat("patch", 0.1), Beyond)


def test_an_unknown_measure_names_near_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean 'wasserstein'"):
        threat("wassserstein", 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measure", "epsilon", "said"),
    [
        ("patch", 1.5, "cannot be larger than the image"),
        ("spatial", 1.1, "share up to 1"),
        ("colour", -1.0, "0 or more"),
        ("wasserstein", float("nan"), "0 or more"),
    ],
)
def test_an_epsilon_that_is_none_is_refused(measure: str, epsilon: float, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Beyond(measure, epsilon)


@pytest.mark.parametrize(
    ("measure", "epsilon", "said"),
    [
        ("patch", 1.0, "as large as the image"),
        ("patch", 0.001, "less than a pixel"),
        ("spatial", 2.0, "whole range"),
        ("structure", 2.0, "any change"),
    ],
)
def test_a_budget_of_nothing_or_everything_is_refused(
    measure: str, epsilon: float, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        check_epsilon(measure, epsilon, torch.zeros(1, 1, 8, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize("measure", sorted(RULERS))
def test_vectors_are_no_images(measure: str) -> None:
    with pytest.raises(NotApplicable, match="measure of images"):
        Beyond(measure, SMALL[measure]).budget(torch.zeros(2, 5))


def test_grey_images_have_no_colours() -> None:
    with pytest.raises(NotApplicable, match="1 channel:"):
        Beyond("colour", 1.0).budget(torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize("measure", sorted(RULERS))
def test_projections_and_draws_are_allowed(measure: str) -> None:
    """For one epsilon a sample, from far outside, and on an image that is all black."""
    generator = torch.Generator().manual_seed(0)
    x = 4 * torch.rand(4, 3, 7, 8, generator=generator).round(decimals=1) - 1
    x = x[:, : CHANNELS.get(measure, 3)]
    x[0] = -1
    around = Beyond(measure, SMALL[measure] * torch.tensor([1.0, 0.0, 0.5, 1.5]), -1.0, 3.0)
    wish = 20 * torch.rand(x.shape, generator=generator) - 10
    for candidate in (wish, drawn(around, x, keyed(0, torch.arange(4)))):
        point = around.project(candidate, x)
        assert bool(around.contains(point, x).all())
        assert torch.equal(point[1], x[1])
        assert bool((around.distance(point, x) <= around.budget(x).flatten()).all())
        assert torch.equal(around.project(point, x), point)
    assert bool(around.contains(drawn(around, x, keyed(1, torch.arange(4))), x).all())


@pytest.mark.parametrize("measure", sorted(RULERS))
def test_outside_the_box_is_outside(measure: str) -> None:
    x = torch.full((1, CHANNELS.get(measure, 3), 6, 6), 1.0)
    out = x + 1e-6
    assert not Beyond(measure, SMALL[measure]).contains(out, x)


@pytest.mark.parametrize("measure", sorted(RULERS))
def test_rows_keep_their_own_epsilon(measure: str) -> None:
    epsilons = SMALL[measure] * torch.tensor([0.2, 1.0, 0.5])
    part = Beyond(measure, epsilons).at(torch.tensor([2, 0]))
    assert torch.equal(torch.as_tensor(part.epsilon), epsilons[[2, 0]])


def test_how_far_anything_can_be() -> None:
    assert widest("linf", 2.0, (1, 4, 4)) == 2.0
    assert widest("patch", 2.0, (1, 4, 4)) == 1.0
    assert widest("wasserstein", 1.0, (3, 4, 5)) == 9.0
