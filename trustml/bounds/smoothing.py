"""Randomised smoothing: an L2 radius within which a smoothed classifier provably keeps its answer.

Source: Cohen, Rosenfeld, Kolter 2019, arXiv:1902.02918, Theorem 1 and the algorithm CERTIFY. The
smoothed classifier answers the class that the model gives most often to x plus Gaussian noise. The
certificate is about that classifier, not about the model; it holds with probability 1 − alpha for
each sample; and the noise may leave the box. As ‖·‖₂ ≤ ‖·‖₁, a radius holds in L1 as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.contracts import Classifier, Random
from trustml.errors import BadOption, MethodFailed

ABSTAIN = -1
# Noisy inputs that are held at a time.
_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Smoothed:
    """Answers (B,) int64 (−1: abstained) and the L2 radii (B,) within which they hold, float64."""

    answer: Tensor
    radius: Tensor


def smoothed(
    model: Classifier,
    x: Tensor,
    /,
    *,
    random: Random,
    sigma: float = 0.25,
    guesses: int = 100,
    draws: int = 10_000,
    alpha: float = 0.001,
) -> Smoothed:
    """Return the smoothed classifier's answers and certified radii (B,), or that it abstains.

    Args:
        model: the base classifier, inputs (B, *S) → logits (B, K).
        x: inputs (B, *S).
        random: the samples' random numbers.
        sigma: standard deviation of the noise, in the units of x.
        guesses: draws that pick the class to be certified.
        draws: others, from which the certificate is computed; more give larger radii.
        alpha: chance that a certificate is wrong.

    Raises:
        BadOption: an option that is out of range.
        MethodFailed: the model answers NaN.
    """
    _check(sigma, guesses, draws, alpha)
    with frozen(model), torch.no_grad():
        guess = _votes(model, x, random, sigma, ("smoothing guess", guesses)).argmax(1)
        votes = _votes(model, x, random, sigma, ("smoothing", draws))
    agreed = votes.gather(1, guess[:, None])[:, 0]
    least = lower_confidence(agreed, draws, alpha)
    sure = least > 0.5
    radius = torch.where(sure, sigma * torch.special.ndtri(least), 0.0)
    return Smoothed(torch.where(sure, guess, ABSTAIN), radius)


def lower_confidence(successes: Tensor, trials: int, alpha: float) -> Tensor:
    """Return the one-sided Clopper-Pearson lower bounds (B,) of proportions, float64.

    The proportion is below its bound with chance alpha at most (Clopper & Pearson 1934).
    """
    from scipy.special import betaincinv

    count = successes.double().cpu()
    bound = torch.as_tensor(
        betaincinv(count.clamp_min(1.0).numpy(), (trials - count + 1).numpy(), alpha)
    )
    return torch.where(count > 0, bound, 0.0).to(successes.device)


def _votes(
    model: Classifier, x: Tensor, random: Random, sigma: float, what: tuple[str, int]
) -> Tensor:
    """Return how often (B, K) each class is answered to x plus noise."""
    votes = None
    for steps in _parts(what[1], max(1, _ROWS // max(1, len(x)))):
        noise = [random.normal(tuple(x.shape[1:]), what[0], step) for step in steps]
        noisy = torch.cat([x + sigma * part.to(x.dtype) for part in noise])
        logits = in_blocks(model, noisy)
        if bool(logits.isnan().any()):
            raise MethodFailed("the model answers NaN to a noisy input")
        if votes is None:
            votes = torch.zeros(len(x), logits.shape[1], dtype=torch.int64, device=x.device)
        answers = logits.argmax(1).view(len(steps), len(x)).T
        votes.scatter_add_(1, answers, torch.ones_like(answers))
    assert votes is not None
    return votes


def _parts(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def _check(sigma: float, guesses: int, draws: int, alpha: float) -> None:
    for name, value, good in (
        ("sigma", sigma, sigma > 0),
        ("guesses", guesses, guesses >= 1),
        ("draws", draws, draws >= 1),
        ("alpha", alpha, 0 < alpha < 1),
    ):
        if not good:
            allowed = {"sigma": "above 0", "alpha": "between 0 and 1"}.get(name, "1 or more")
            raise BadOption(f"smoothing: {name}={value} is not allowed: it must be {allowed}")
