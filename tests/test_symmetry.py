"""Differences modulo symmetry: 0 along each symmetry, and as written down off it."""

import pytest
import torch
from torch import Tensor

from trustml.errors import BadInput
from trustml.symmetry import Hidden, affine_difference, centred, units_difference

TABLE = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 2.0], [5.0, 5.0, -2.0]], dtype=torch.float64)
SHIFT = torch.tensor([10.0, -7.0, 0.5], dtype=torch.float64)


def test_no_symmetry_is_the_plain_difference() -> None:
    off = TABLE.clone()
    off[1, 2] += 0.25
    found = affine_difference(off, TABLE, "nothing")
    assert found.largest == 0.25
    assert found.relative == pytest.approx(0.25 / float(TABLE.norm()))


def test_a_shift_over_the_classes_is_not_seen_up_to_shift() -> None:
    assert affine_difference(TABLE + SHIFT, TABLE, "nothing").largest == 10.0
    assert affine_difference(TABLE + SHIFT, TABLE, "shift").largest < 1e-14
    assert affine_difference(2 * TABLE, TABLE, "shift").largest > 1


def test_a_positive_scale_is_not_seen_up_to_shift_and_scale_but_a_sign_is() -> None:
    assert affine_difference(3 * TABLE + SHIFT, TABLE, "shift and scale").largest < 1e-14
    # The best factor ≥ 0 for −θ is 0, which misses all of the centred truth.
    assert affine_difference(-TABLE, TABLE, "shift and scale").relative == 1.0


def test_centring_changes_no_softmax() -> None:
    p = TABLE.softmax(0)
    torch.testing.assert_close(centred(TABLE).softmax(0), p)


def _net() -> Hidden:
    draw = torch.Generator().manual_seed(3)
    sizes = ((5, 4), (3, 5), (3,))
    return Hidden(*(torch.randn(s, generator=draw, dtype=torch.float64) for s in sizes))


def _moved(net: Hidden, shift: Tensor | None = None) -> Hidden:
    order, scale = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([0.1, 5.0, 1.0, 20.0, 0.5]).double()
    outer, bias = net.outer[:, order] / scale, net.bias
    if shift is not None:
        outer, bias = outer + shift, bias + 3
    return Hidden(net.inner[order] * scale[:, None], outer, bias)


def test_order_and_positive_scale_of_units_are_not_seen() -> None:
    net = _net()
    assert units_difference(_moved(net), net, "units").largest < 1e-13
    shifted = _moved(net, torch.ones(5).double())
    assert units_difference(shifted, net, "units").largest > 0.5
    assert units_difference(shifted, net, "units and shift").largest < 1e-13


def test_a_flipped_unit_is_seen() -> None:
    """The sign of a ReLU unit is no symmetry: relu(−z) is another function."""
    net = _net()
    inner = net.inner.clone()
    inner[2] *= -1
    assert units_difference(Hidden(inner, net.outer, net.bias), net, "units").largest > 0.5


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BadInput, match="against"):
        affine_difference(TABLE[:2], TABLE, "nothing")
    with pytest.raises(BadInput, match="not known up to 'units'"):
        affine_difference(TABLE, TABLE, "units")
    net = _net()
    with pytest.raises(BadInput, match="networks of shapes"):
        units_difference(Hidden(net.inner[:4], net.outer[:, :4], net.bias), net, "units")
    with pytest.raises(BadInput, match="not 'shift'"):
        units_difference(net, net, "shift")
