"""What the exam of detectors asks of a chain: that the model shows enough, checked suspicions."""

import torch
from torch import Tensor, nn

from trustml import chains
from trustml.benchmarks.setting import blaming
from trustml.chains import Chain
from trustml.contracts import Access, Outputs
from trustml.errors import MethodFailed, NotApplicable
from trustml.gate import Scorer
from trustml.registry import all_of

# What a model must show so that this part of its outputs means something.
_NEEDS = {
    "logits": Access.PROBABILITIES,
    "draws": Access.GRADIENTS,
    "features": Access.GRADIENTS,
    "gradients": Access.GRADIENTS,
}


def check_shown(chain: Chain, shown: Access, *, aware: bool = False) -> None:
    """Check that a model shows what the chain reads of it, and the attack on it if it is aware.

    Raises:
        NotApplicable: it does not; the message names detectors that would do.
    """
    lacking = [part for part in chain.reads if _NEEDS.get(part, Access.LABELS) > shown]
    if lacking:
        able = [
            plugin.name
            for plugin in all_of("detector")
            if all(_NEEDS.get(part, Access.LABELS) <= shown for part in plugin.facts["reads"])
        ]
        raise NotApplicable(
            f"{chain.name} reads {' and '.join(sorted(lacking))}, and this model shows "
            f"{shown.name.lower()}; these would do: {', '.join(able) or 'none'}"
        )
    if aware and shown < Access.GRADIENTS:
        raise NotApplicable(
            f"--aware follows gradients, and this model shows {shown.name.lower()}: leave it out"
        )


def learnt(chain: Chain, module: nn.Module, train: Outputs, validation: Outputs) -> Scorer:
    """Return the scorer of the chain; an error names the part that raised it.

    Raises:
        TrustError: a part of it does not suit the model, or breaks its contract.
    """
    return chains.learnt(chain, module, train, validation, blaming)


def checked(scorer: Scorer) -> Scorer:
    """Return the scorer with its suspicions checked, in float64, on the CPU and without a graph."""

    def score(outputs: Outputs) -> Tensor:
        with torch.no_grad():
            return checked_suspicion(scorer(outputs), len(outputs.y))

    return score


def checked_suspicion(found: object, count: int) -> Tensor:
    """Return the suspicions (B,) in float64.

    Raises:
        MethodFailed: they are not one number a sample, or NaN.
    """
    if not isinstance(found, Tensor) or found.shape != (count,):
        said = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise MethodFailed(f"the scorer returned {said}, not one suspicion for each of {count}")
    if bool(found.isnan().any()):
        raise MethodFailed(f"{int(found.isnan().sum())} of {count} suspicions are NaN")
    return found.detach().cpu().to(torch.float64)
