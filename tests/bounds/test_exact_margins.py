"""Bounds against networks that are solved completely: never more than is so, and not far below."""

import pytest
import torch

from tests.attacks.complete import CLASSES, NETS, SAMPLES, lowest_margin, net
from trustml.benchmarks.certify import certificate
from trustml.bounds.crown import crown_margins
from trustml.bounds.graph import graph_of
from trustml.bounds.interval import interval_margins
from trustml.contracts import Norm, Split
from trustml.threats import Lp

every_net = pytest.mark.parametrize("widths", NETS.values(), ids=NETS)


@every_net
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_no_bound_is_above_the_exact_margin(norm: Norm, widths: tuple[int, ...]) -> None:
    """The least lead over each rival is a mixed-integer programme; half of the least distance."""
    here = net(*widths)
    epsilon = 0.5 * here.distances(norm)
    rows = range(0, SAMPLES, 2)
    exact = torch.full((SAMPLES, CLASSES), torch.inf, dtype=torch.float64)
    for row in rows:
        for rival in {*range(CLASSES)} - {int(here.y[row])}:
            exact[row, rival] = lowest_margin(here, row, float(epsilon[row]), norm, rival)
    graph, some = graph_of(here.module, (4,)), torch.tensor(rows)
    given = graph, here.x[some], here.y[some], Lp(norm, epsilon[some])
    plain, better = interval_margins(*given), crown_margins(*given)
    exact = exact[some]
    assert bool((plain <= exact + 1e-5).all())
    assert bool((better <= exact + 1e-5).all())
    assert bool((better >= plain).all())
    # As long as no unit can bend, CROWN is exact; half of the way only few do.
    assert bool((exact.amin(1) > 0).all())
    assert (better.amin(1) > 0).double().mean() >= 0.5


@every_net
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95, 1.001, 1.5])
def test_what_is_certified_is_so(share: float, norm: Norm, widths: tuple[int, ...]) -> None:
    """Nothing beyond the exact distance; far below it nearly all."""
    here = net(*widths)
    least = here.distances(norm)
    # Of L0 half an entry more or less.
    epsilon = share * least if norm != "l0" else least + (0.5 if share > 1 else -0.5)
    split = Split(here.x, here.y, torch.arange(SAMPLES), CLASSES)
    proved = certificate(here.module, split, Lp(norm, epsilon)).certified
    if share > 1:
        assert not bool(proved.any())
    elif share < 0.2:
        assert proved.double().mean() >= 0.9
