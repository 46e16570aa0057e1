"""Signs that a robustness number may be the attack's weakness and not the model's strength.

Sources: Pintor et al. 2022, arXiv:2106.09947 (indicators of attack failure); Carlini et al. 2019,
arXiv:1902.06705 (sanity checks); the flags of Croce & Hein's AutoAttack. Each measures one number
and compares it with a threshold that ordinary and adversarially trained models stay far from.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.benchmarks import probes
from trustml.benchmarks.probes import Subject
from trustml.contracts import Access, Norm
from trustml.registry import get

# What ordinary models show: mismatch under 0.02, exponent over 0.98, change under 0.02, gain under
# 0.07; models that hide their gradients are at 0.5 and more, under 0.7, over 0.3 and over 0.3.
_SOME = 0.02
_SATURATED = 0.05
_MISMATCH = 0.2
_EXPONENT = 0.8
_UNSTABLE = 0.1
_GAIN, _LATE = 0.15, 0.05
_DLR_CLASSES = 4


@dataclass(frozen=True, slots=True)
class Indicator:
    """One sign: whether it fired, the number behind it, and a sentence with that number."""

    name: str
    fired: bool
    value: float
    sentence: str


def notes(indicators: Iterable[Indicator]) -> tuple[str, ...]:
    """Return the sentences of the indicators that fired."""
    return tuple(indicator.sentence for indicator in indicators if indicator.fired)


def model_indicators(seen: Subject) -> list[Indicator]:
    """Return what the model shows whatever the threat; nothing if no sample is read rightly.

    About 25 forward and 10 backward passes over the samples, and up to 40 more of both.
    """
    if not len(seen.x):
        return []
    found = [*_answers(seen)]
    random = found[0].fired
    sizes = probes.gradients(seen)
    found.append(_missing(sizes is None))
    if sizes is not None:
        found += _gradient_sizes(sizes)
        # The difference of two draws says nothing about the function.
        found += [] if random else [_mismatch(seen), *_rough(seen)]
        found.append(_unbounded(seen))
    elif not random:
        found += _rough(seen)
    return found


def threat_indicators(seen: Subject, norm: Norm, epsilon: float) -> list[Indicator]:
    """Return whether a walk of 40 steps still gains at its end, in this ball.

    Nothing for L0, for an infinite ball, and for a model without a gradient.
    """
    if not len(seen.x) or norm == "l0" or not 0 < epsilon < math.inf:
        return []
    if probes.gradients(seen) is None:
        return []
    trace = probes.climbed(seen, norm, epsilon, steps=(10, 20, 40), step=epsilon / 4)
    left = {count: float((low >= 0).double().mean()) for count, low in trace.at.items()}
    # Beyond 0 the attacker has won, and what is gained there is no gain.
    start, middle, end = (m.clamp_min(0).mean() for m in (trace.start, trace.at[20], trace.at[40]))
    gain = float((middle - end) / (start - end)) if start > end else 0.0
    late = left[20] - left[40]
    said = ", ".join(f"{share:.0%} after {count}" for count, share in left.items())
    return [
        Indicator(
            "loss still rising",
            gain > _GAIN or late > _LATE,
            gain,
            f"steps 21 to 40 of a walk in the {norm} ball bring {gain:.0%} of all that it gains "
            f"(robust: {said} steps): longer attacks may find more",
        )
    ]


def group_indicators(attacks: Sequence[tuple[str, Tensor]], count: int) -> list[Indicator]:
    """Return whether attacks without gradients fool what those with gradients cannot.

    Args:
        attacks: plugin name and which samples (N,) it fooled, of each attack under one threat.
        count: how many samples were examined.
    """
    needs = [get("attack", name).facts["needs"] for name, _ in attacks]
    seeing = [need >= Access.GRADIENTS for need in needs]
    with_gradients = [a for a, sees in zip(attacks, seeing, strict=True) if sees]
    without = [a for a, sees in zip(attacks, seeing, strict=True) if not sees]
    if not with_gradients or not without or not count:
        return []
    caught = torch.stack([fooled.bool() for _, fooled in with_gradients]).any(0)
    missed = {name: int((fooled.bool() & ~caught).sum()) for name, fooled in without}
    best = max(missed, key=lambda name: missed[name])
    share = missed[best] / count
    return [
        Indicator(
            "black box beats white box",
            missed[best] >= 2 and share > _SOME / 2,
            share,
            f"{best}, which sees no gradients, fools {missed[best]} samples ({share:.1%}) that "
            f"{', '.join(name for name, _ in with_gradients)} cannot: the gradients may mislead",
        )
    ]


def _answers(seen: Subject) -> Iterable[Indicator]:
    share = probes.unequal_answers(seen)
    yield Indicator(
        "randomised",
        share > 0,
        share,
        f"{share:.0%} of {len(seen.x)} samples get another answer when the model is asked again: "
        f"an attack must average over draws, and a single verdict is a draw too",
    )
    live = probes.live_dropouts(seen)
    yield Indicator(
        "dropout left on",
        live > 0,
        live,
        f"dropout stays on in evaluation mode ({live} calls a pass)",
    )
    share = probes.probability_rows(seen)
    yield Indicator(
        "probabilities as logits",
        share == 1,
        share,
        f"{share:.0%} of the answers lie in [0, 1] and sum to 1: they look like probabilities, not "
        f"logits, and a softmax of a softmax hides the gradient",
    )
    with torch.no_grad():
        classes = seen.module(seen.x[:1]).shape[1]
    yield Indicator(
        "few classes",
        classes < _DLR_CLASSES,
        classes,
        f"{classes} classes: the targeted DLR loss needs 4 and the untargeted 3, so that the plain "
        f"margin takes their place",
    )


def _missing(missing: bool) -> Indicator:
    return Indicator(
        "no gradient",
        missing,
        float(missing),
        "the answers have no gradient with respect to the inputs (detached, or computed outside "
        "torch): attacks that need one cannot judge this model",
    )


def _gradient_sizes(sizes: tuple[Tensor, Tensor]) -> Iterable[Indicator]:
    of_loss, of_margin = sizes
    share = float(((of_loss == 0) & (of_margin == 0)).double().mean())
    yield Indicator(
        "zero gradient",
        share > _SOME,
        share,
        f"the gradients of cross-entropy and margin are exactly 0 for {share:.0%} of "
        f"{len(of_loss)} samples: attacks that follow them stand still",
    )
    share = float(((of_loss == 0) & (of_margin != 0)).double().mean())
    yield Indicator(
        "saturated loss",
        share > _SATURATED,
        share,
        f"the gradient of cross-entropy is rounded to 0 for {share:.0%} of {len(of_loss)} samples, "
        f"that of the margin is not: use loss=margin or loss=dlr",
    )


def _mismatch(seen: Subject) -> Indicator:
    value = probes.gradient_mismatch(seen)
    return Indicator(
        "gradient mismatch",
        value > _MISMATCH,
        value,
        f"small moves change the margin otherwise than the gradient says (relative difference "
        f"{value:.2f}): a quantised input, or another step that the gradient does not see",
    )


def _rough(seen: Subject) -> Iterable[Indicator]:
    change, exponent = probes.roughness(seen)
    yield Indicator(
        "jumps",
        exponent < _EXPONENT,
        exponent,
        f"the margin changes by jumps (growth exponent {exponent:.2f}; 1 is smooth, 0.5 jumps): a "
        f"gradient says little about a model of k-winners-take-all kind",
    )
    yield Indicator(
        "unstable predictions",
        change > _UNSTABLE,
        change,
        f"random moves of {probes.FAR:.0%} of the box change the margin by {change:.0%} of its "
        f"size on average: the loss is noise on the scale of an attack's step",
    )


def _unbounded(seen: Subject) -> Indicator:
    trace = probes.climbed(seen, "linf", math.inf, steps=(40,), step=seen.width / 10)
    share = float((trace.at[40] >= 0).double().mean())
    return Indicator(
        "unbounded attack fails",
        share > _SOME,
        share,
        f"an attack that may change the input at will leaves {share:.0%} of {len(seen.x)} samples "
        f"robust: its gradients lead nowhere",
    )
