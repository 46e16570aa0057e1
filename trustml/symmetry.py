"""How far apart two sets of parameters are, once what no answer can tell is taken out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.contracts import Symmetry
from trustml.errors import BadInput


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference of one parameter, and the norm of all relative to the truth's."""

    largest: float
    relative: float


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """One hidden ReLU layer: logits = outer (K, H) @ relu(inner (H, D+1) @ [x, 1]) + bias (K,)."""

    inner: Tensor
    outer: Tensor
    bias: Tensor


def centred(table: Tensor) -> Tensor:
    """Return parameters (K, …) less their mean over classes: the same softmax, one of its kind."""
    return table - table.mean(0, keepdim=True)


def affine_difference(stolen: Tensor, truth: Tensor, up_to: Symmetry) -> Difference:
    """Return how far the affine map `stolen` (K, D+1) is from `truth` (K, D+1).

    Up to a shift both are centred over the classes; up to a scale too, the stolen one is multiplied
    by the positive factor that fits best (a negative one is no symmetry: it is cut to 0).

    Raises:
        BadInput: different shapes, or a symmetry that affine maps do not have.
    """
    if stolen.shape != truth.shape:
        raise BadInput(f"parameters {tuple(stolen.shape)} against {tuple(truth.shape)}")
    stolen, truth = stolen.double(), truth.double()
    if up_to in ("shift", "shift and scale"):
        stolen, truth = centred(stolen), centred(truth)
    elif up_to != "nothing":
        raise BadInput(f"an affine map is not known up to {up_to!r}")
    if up_to == "shift and scale":
        square = stolen.square().sum()
        fit = (stolen * truth).sum() / square if square > 0 else square
        stolen = stolen * fit.clamp_min(0)
    return _difference(stolen, truth)


def units_difference(stolen: Hidden, truth: Hidden, up_to: Symmetry) -> Difference:
    """Return how far two one-hidden-layer ReLU networks are, units matched and scaled alike.

    Every unit's inner row gets length 1 (its bias not counted), its outer column the length taken;
    then units are matched for the least sum of squared differences. Up to a shift, the outer
    columns and biases are centred over the classes.

    Raises:
        BadInput: different shapes or numbers of units, or another symmetry.
    """
    if up_to not in ("units", "units and shift"):
        raise BadInput(f"hidden units are known up to 'units' or 'units and shift', not {up_to!r}")
    shapes = [(tuple(net.inner.shape), tuple(net.outer.shape)) for net in (stolen, truth)]
    if shapes[0] != shapes[1]:
        raise BadInput(f"networks of shapes {shapes[0]} against {shapes[1]}")
    shift = up_to == "units and shift"
    (mine, bias), (theirs, true_bias) = _canonical(stolen, shift), _canonical(truth, shift)
    order = _matched(mine, theirs)
    return _difference(
        torch.cat([mine[order].flatten(), bias]), torch.cat([theirs.flatten(), true_bias])
    )


def _canonical(net: Hidden, shift: bool) -> tuple[Tensor, Tensor]:
    """Return units (H, D+1+K), each inner row of length 1, and the output bias (K,)."""
    inner, outer, bias = net.inner.double(), net.outer.double(), net.bias.double()
    if shift:
        outer, bias = centred(outer), centred(bias)
    length = inner[:, :-1].norm(dim=1).clamp_min(1e-300)
    return torch.cat([inner / length[:, None], (outer * length).T], 1), bias


def _matched(mine: Tensor, theirs: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(theirs, mine, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.from_numpy(linear_sum_assignment(cost.numpy())[1])


def _difference(stolen: Tensor, truth: Tensor) -> Difference:
    gap, size = stolen - truth, float(truth.norm())
    relative = float(gap.norm()) / size if size > 0 else float("inf")
    return Difference(float(gap.abs().max()), relative)
