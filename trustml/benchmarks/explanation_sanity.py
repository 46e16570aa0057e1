"""Does an explanation look at the model? Randomised weights and labels; agreement of methods."""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trustml.benchmarks.explained import places
from trustml.benchmarks.explanation_scores import Measured, mean_of
from trustml.benchmarks.explanation_sums import correlation
from trustml.errors import BadInput, NotApplicable

Order = Literal["top_down", "bottom_up"]
ExplainOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


def parameter_randomisation(
    model: nn.Module,
    explain: ExplainOf,
    x: Tensor,
    target: Tensor,
    *,
    order: Order = "bottom_up",
    seed: int = 0,
) -> Measured:
    """Return the rank correlation (B,) with maps of the model as its layers lose what they learnt.

    The mean over stages, one more layer random at each (Adebayo et al. 2018, arXiv:1810.03292).
    Near 0 for a map that depends on the weights, 1 for one that does not. From the top down, what
    the lower layers show stays visible (Binder et al. 2022, arXiv:2211.12486): hence the default.

    Args:
        model: the trained network.
        explain: (model, x, target) → maps.
        x: inputs (B, *S).
        target: classes (B,).
        order: which layers go first.
        seed: of the random weights.

    Raises:
        NotApplicable: the model has no weights.
    """
    still = _ranked(explain(model, x, target))
    stages = [
        _agreeing(still, _ranked(explain(stage, x, target)))
        for stage in randomised(model, order, seed)
    ]
    return mean_of(torch.stack(stages).mean(0), "lower")


def complexity_rise(
    model: nn.Module, explain: ExplainOf, x: Tensor, target: Tensor, *, seed: int = 0
) -> Measured:
    """Return by how much the entropy (B,) of |map| grows once all weights are random, relatively.

    A map of what was learnt is simpler than one of noise (Hedström et al. 2023,
    arXiv:2401.06465, eq. 7, with the entropy of the normalised map).

    Raises:
        NotApplicable: the model has no weights.
    """
    *_, last = randomised(model, "bottom_up", seed)
    before, after = (_entropy(explain(network, x, target)) for network in (model, last))
    # A map of one place, or of none, has no entropy to grow from.
    return mean_of((after - before) / torch.where(before > 1e-9, before, torch.nan), "higher")


def randomised(model: nn.Module, order: Order, seed: int) -> Iterator[nn.Module]:
    """Yield copies of the model with one more layer's weights drawn anew each time.

    Layers draw as they did before training where they know how; other weights are shuffled.

    Raises:
        NotApplicable: the model has no weights.
    """
    if not isinstance(model, nn.Module):
        raise NotApplicable("only the weights of an nn.Module can be randomised")
    network = copy.deepcopy(model)
    layers = [layer for layer in network.modules() if any(True for _ in layer.parameters(False))]
    if not layers:
        raise NotApplicable("the model has no weights that could be randomised")
    for number, layer in enumerate(layers if order == "bottom_up" else layers[::-1]):
        devices = {weight.device for weight in layer.parameters(False) if weight.is_cuda}
        with torch.random.fork_rng(devices=list(devices)):
            torch.manual_seed(_own_seed(seed, number))
            _forget(layer)
        yield copy.deepcopy(network)


def data_randomisation(maps: Tensor, of_shuffled: Tensor) -> Measured:
    """Return the rank correlation (B,) with maps of a model that learnt shuffled labels.

    Adebayo et al. 2018, §3.2: near 0 for a map that shows what was learnt from the labels.
    """
    return mean_of(rank_correlation(maps, of_shuffled), "lower")


def agreement(maps: Mapping[str, Tensor]) -> dict[tuple[str, str], Measured]:
    """Return the rank correlation (B,) of each two methods' parts (B, *S), same inputs."""
    return {
        (one, other): mean_of(rank_correlation(maps[one], maps[other]), "higher")
        for one, other in combinations(maps, 2)
    }


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's ρ (B,) of two maps (B, *S), by place; 0 where one is constant.

    Raises:
        BadInput: maps of different shapes.
    """
    if first.shape != second.shape:
        raise BadInput(f"maps {tuple(first.shape)} and {tuple(second.shape)} cannot be compared")
    return _agreeing(_ranked(first), _ranked(second))


def _agreeing(first: Tensor, second: Tensor) -> Tensor:
    # A constant map orders nothing, so it agrees with nothing.
    return correlation(first, second).nan_to_num(0.0)


def _ranked(maps: Tensor) -> Tensor:
    """Return the rank of each place (B, P), float64; equal values share the mean of their ranks."""
    # NumPy sorts rows three times as fast as torch on a processor; equal ones may stand anyhow.
    values = places(maps).cpu().numpy()
    order = values.argsort(axis=1)
    ordered = np.take_along_axis(values, order, 1)
    spot = np.arange(values.shape[1])
    shared: Any = np.broadcast_to(spot.astype(np.float64), values.shape)
    same = ordered[:, 1:] == ordered[:, :-1]
    if same.any():
        edge = np.zeros((len(values), 1), dtype=bool)
        first = np.maximum.accumulate(np.where(np.hstack([edge, same]), 0, spot), axis=1)
        last = np.where(np.hstack([same, edge]), spot[-1], spot)[:, ::-1]
        shared = (first + np.minimum.accumulate(last, axis=1)[:, ::-1]) / 2
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, shared, 1)
    return torch.from_numpy(ranks).to(maps.device)


def _entropy(maps: Tensor) -> Tensor:
    share = places(maps.double()).abs()
    share = share / share.sum(1, keepdim=True).clamp_min(1e-300)
    return -torch.special.xlogy(share, share).sum(1)


def _own_seed(seed: int, number: int) -> int:
    """Return a seed that no training begins with, or its first weights would be drawn again."""
    digest = hashlib.blake2b(f"forget/{seed}/{number}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def _forget(layer: nn.Module) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    with torch.no_grad():
        for weight in layer.parameters(recurse=False):
            mixed = weight.flatten()[torch.randperm(weight.numel()).to(weight.device)]
            weight.copy_(mixed.view_as(weight))
