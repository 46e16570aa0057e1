"""NES and SPSA against the closed forms of linear models."""

import pytest

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.nes import nes
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("noise", ["normal", "signs"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_a_linear_model_is_solved(noise: str, norm: str, aimed: bool) -> None:
    """The estimate's mean is w, so all are misread just beyond the least distance, none below."""
    options = {"queries": 2000, "noise": noise, "aimed": aimed}
    assert fooled("nes", norm, 1.1, **options) == 1.0
    assert fooled("nes", norm, 0.99, **options) == 0.0


@pytest.mark.parametrize("queries", [1, 20, 21, 22, 65])
def test_no_more_is_asked_than_allowed(queries: int) -> None:
    """One query for the input, then 2 · 10 looks and the step that they lead to."""
    steps = (queries - 1) // 21
    assert bool((spent("nes", "linf", queries=queries) == 1 + 21 * steps).all())


@pytest.mark.parametrize("options", [{"queries": 0}, {"pairs": 0}, {"stride": 0.0}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        nes(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), **options)
