"""Does an explanation add up? Completeness, infidelity and sensitivity-n."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from trustml.benchmarks.explained import Explained, generator, spread, worth, worths
from trustml.benchmarks.explanation_scores import Measured, mean_of, median_of
from trustml.contracts import Classifier
from trustml.errors import BadOption

Perturbation = Literal["gaussian", "removal"]


def completeness(
    model: Classifier, explained: Explained, baseline: Tensor, *, relative: bool = True
) -> Measured:
    """Return |Σ parts - (f(x) - f(x₀))| (B,), by default as a share of |f(x) - f(x₀)|; median.

    0 for the weight row of a linear model, whatever the baseline (B, *S). A number, not a verdict:
    in float32 even an exact method is off by some 1e-7.
    """
    gap, error = _errors(model, explained, baseline)
    return median_of(error / gap.abs().clamp_min(1e-12) if relative else error, "lower")


def multi_baseline(
    model: Classifier, explained: Explained, baselines: Mapping[str, Tensor]
) -> Measured:
    """Return the worst completeness error (B,) over baselines, as a share of the largest gap.

    Only a map that is complete for every baseline gets 0: the weight row of a linear model.

    Raises:
        BadOption: no baselines.
    """
    if not baselines:
        raise BadOption("multi_baseline needs at least one baseline")
    pairs = [_errors(model, explained, baseline) for baseline in baselines.values()]
    gaps, errors = (torch.stack(column) for column in zip(*pairs, strict=True))
    return median_of(errors.amax(0) / gaps.abs().amax(0).clamp_min(1e-12), "lower")


def infidelity(
    model: Classifier,
    explained: Explained,
    baseline: Tensor,
    *,
    perturbation: Perturbation = "removal",
    sigma: float = 0.1,
    draws: int = 64,
    scaled: bool = False,
    seed: int = 0,
) -> Measured:
    """Return E (I·a - (f(x) - f(x - I)))² (B,) over perturbations I (Yeh et al. 2019, def. 2.1).

    0 for the weight row w of a linear model; a + w has E (I·a)², σ² ‖a‖² under Gaussian I.

    Args:
        model: gives logits.
        explained: maps; only influences have a part in a Gaussian perturbation.
        baseline: what a removed entry is set to, (B, *S).
        perturbation: "gaussian" noise, or "removal" of squares of random place and size.
        sigma: standard deviation of the Gaussian.
        draws: perturbations, the same for every input.
        scaled: with the map multiplied by the number that fits best.
        seed: of the perturbations.

    Raises:
        BadOption: an attribution under Gaussian noise, no draws, a sigma not above 0.
    """
    if draws < 1 or not sigma > 0:
        raise BadOption(f"infidelity: draws={draws} and sigma={sigma} must be above 0")
    x, size = explained.x, explained.x[0].numel()
    if perturbation == "gaussian":
        if not explained.influence:
            raise BadOption(
                "infidelity under gaussian noise asks for an influence (a map in gradient space); "
                "this map sums to a difference: take perturbation=removal"
            )
        noise = sigma * torch.randn(draws, *x.shape[1:], generator=generator(seed)).to(x)
        said = explained.maps.double().flatten(1) @ noise.double().view(draws, size).T
        left = worths(model, x, explained.target, draws, lambda rows: x[rows][:, None] - noise)
    else:
        masks = squares(x, draws, seed)
        said = explained.parts(baseline).flatten(1) @ masks.double().flatten(1).T
        left = _without(model, explained, baseline, masks)
    lost = worth(model, x, explained.target)[:, None] - left
    if scaled:
        fit = (said * lost).sum(1) / said.square().sum(1).clamp_min(1e-300)
        said = fit[:, None] * said
    return mean_of((said - lost).square().mean(1), "lower")


def sensitivity_n(
    model: Classifier,
    explained: Explained,
    baseline: Tensor,
    *,
    shares: tuple[float, ...] = (0.02, 0.1, 0.3, 0.6),
    subsets: int = 64,
    seed: int = 0,
) -> Measured:
    """Return how far Σ parts over a subset correlates with what its removal costs (B,).

    The mean over subset sizes of Pearson's correlation (Ancona et al. 2018, §4); 1 on a linear
    model. Undefined where every subset costs the same.

    Args:
        model: gives logits.
        explained: maps.
        baseline: what a removed entry is set to, (B, *S).
        shares: sizes of the subsets, as shares of all places.
        subsets: subsets of each size, the same for every input.
        seed: of the subsets.

    Raises:
        BadOption: fewer than 3 subsets, or a share outside (0, 1).
    """
    if subsets < 3 or not all(0 < share < 1 for share in shares) or not shares:
        raise BadOption(f"sensitivity_n: subsets={subsets}, shares={shares} are not allowed")
    x, draw = explained.x, generator(seed)
    count = x[0].numel() // (x.shape[1] if x.dim() == 4 else 1)
    sizes = [min(count - 1, max(1, round(share * count))) for share in shares]
    picked = torch.stack([
        torch.rand(count, generator=draw).argsort() < size for size in sizes for _ in range(subsets)
    ])  # fmt: skip
    masks = spread(picked.to(x.device), x)
    said = explained.parts(baseline).flatten(1) @ masks.double().flatten(1).T
    lost = worth(model, x, explained.target)[:, None] - _without(model, explained, baseline, masks)
    shape = (len(x), len(sizes), subsets)
    return mean_of(correlation(said.view(shape), lost.view(shape)).mean(1), "higher")


def squares(x: Tensor, draws: int, seed: int) -> Tensor:
    """Return masks (draws, *S) of squares between a tenth and a half of a side, at random places.

    Of inputs that are no images: random subsets of a tenth to a half of the entries.
    """
    draw = generator(seed)
    share = 0.1 + 0.4 * torch.rand(draws, generator=draw)
    if x.dim() != 4:
        ranks = torch.rand(draws, x[0].numel(), generator=draw).argsort(1).argsort(1)
        sizes = (share * x[0].numel()).round().clamp_min(1)
        return (ranks < sizes[:, None]).view(draws, *x.shape[1:]).to(x.device)
    inside = []
    for side in x.shape[2:]:
        length = (share * side).round().clamp_min(1)
        start = (torch.rand(draws, generator=draw) * (side - length + 1)).floor()
        place = torch.arange(side)
        inside.append((place >= start[:, None]) & (place < (start + length)[:, None]))
    mask = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return mask.expand(draws, *x.shape[1:]).to(x.device)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation over the last dimension; NaN where one side is constant."""
    first = first - first.mean(-1, keepdim=True)
    second = second - second.mean(-1, keepdim=True)
    size = first.norm(dim=-1) * second.norm(dim=-1)
    return torch.where(size > 1e-12, (first * second).sum(-1) / size.clamp_min(1e-300), torch.nan)


def _errors(model: Classifier, explained: Explained, baseline: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gap f(x) - f(x₀) (B,) and how far the sum of parts is from it."""
    gap = worth(model, explained.x, explained.target) - _worth_of(model, baseline, explained.target)
    return gap, (explained.parts(baseline).flatten(1).sum(1) - gap).abs()


def _worth_of(model: Classifier, baseline: Tensor, target: Tensor) -> Tensor:
    """Return what the model gives the baselines (B,); one that all share is asked about once."""
    if not bool((baseline == baseline[:1]).all()):
        return worth(model, baseline, target)
    classes, inverse = target.unique(return_inverse=True)
    once = baseline[:1].expand(len(classes), *baseline.shape[1:])
    return worth(model, once, classes)[inverse]


def _without(model: Classifier, explained: Explained, baseline: Tensor, masks: Tensor) -> Tensor:
    """Return the logit (B, masks) with the masked entries set to the baseline."""
    x = explained.x

    def change(rows: slice) -> Tensor:
        return torch.where(masks, baseline[rows][:, None], x[rows][:, None])

    return worths(model, x, explained.target, len(masks), change)
