"""Whether a trigger found in a model turns honest models, too: then nobody has planted it."""

from collections.abc import Callable, Mapping
from itertools import islice

import torch
from torch import Tensor, nn

from trustml.access import frozen, in_blocks
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.honest_models import bystanders, clean_of
from trustml.benchmarks.inspection_controls import OWN, seeds
from trustml.contracts import Split, Suspects
from trustml.errors import NotApplicable

HERE, ELSEWHERE = "turned here", "turned elsewhere"
# Of each kind so many honest models see the triggers.
_BYSTANDERS = 5
# A trigger is natural if it turns honest models at least so many times as often as the inspected
# one. On digits those of honest models do so 0.32 times as often or more, planted ones 0.08.
_NATURAL = 0.15


def turned(said: Suspects, module: nn.Module, bench: Bench) -> dict[str, Tensor]:
    """Return how often each class's trigger turns the model (K,), and honest ones (K,).

    Of honest models it is the mean over those of a kind, and the greatest of such means. Nothing is
    returned where an inspection does not say what its triggers cover.

    Raises:
        TrustError: honest models cannot be trained.
    """
    if said.triggers is None or said.masks is None:
        return {}
    clean = clean_of(bench).to(bench.device)
    triggers, masks = said.triggers.to(clean.x), said.masks.to(clean.x)

    def shares(model: nn.Module) -> Tensor:
        return _shares(model, clean, triggers, masks)

    elsewhere = [mean for made in bystanders(bench) for mean in _mean(made, shares, bench)]
    return {HERE: shares(module), ELSEWHERE: torch.stack(elsewhere).amax(0)}


def natural(found: Mapping[str, Tensor]) -> Tensor:
    """Return which classes (K,) have a trigger that turns honest models, too."""
    if HERE not in found:
        return torch.zeros(len(found[OWN]), dtype=torch.bool)
    return (found[ELSEWHERE] > 0) & (found[ELSEWHERE] >= _NATURAL * found[HERE])


def _mean(
    made: Callable[[int], nn.Module], shares: Callable[[nn.Module], Tensor], bench: Bench
) -> list[Tensor]:
    """Return the mean (K,) over models of a kind; nothing where these do not read well enough."""
    try:
        models = [shares(made(seed)) for seed in islice(seeds(bench.plan), _BYSTANDERS)]
    except NotApplicable:
        return []
    return [torch.stack(models).mean(0)]


def _shares(model: nn.Module, clean: Split, triggers: Tensor, masks: Tensor) -> Tensor:
    """Return the share (K,) of the inputs of other classes, read as such, that a trigger turns."""
    found = []
    with frozen(model), torch.no_grad():
        before = in_blocks(model, clean.x).argmax(1)
        for name, (trigger, mask) in enumerate(zip(triggers, masks, strict=True)):
            x = clean.x[(clean.y != name) & (before != name)]
            marked = trigger + (1 - mask) * (x - clean.low)
            said = in_blocks(model, marked.clamp(clean.low, clean.high)).argmax(1)
            found.append((said == name).double().mean() if len(x) else torch.zeros(()).double())
    return torch.stack(found).cpu().double()
