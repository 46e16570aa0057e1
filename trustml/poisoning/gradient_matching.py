"""Witches' Brew: samples of the wanted class, changed so that one picture is misread."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from trustml.contracts import Random, Split
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.fitted import fitted
from trustml.poisoning._rows import check_class, check_rate, taken
from trustml.registry import poison

STEP = 0.1  # of the paper: the first step, in units of epsilon


@poison(source="Geiping et al. 2021, arXiv:2009.02276, algorithm 1 (without augmentation)")
def gradient_matching(
    split: Split,
    /,
    *,
    random: Random,
    rate: float = 0.05,
    source: int = 1,
    target: int = 0,
    epsilon: float = 0.3,
    steps: int = 100,
    candidates: int = 10,
    surrogates: int = 2,
    model: str = "mlp",
) -> tuple[Split, Callable[[Tensor], Tensor]]:
    """Return the split with samples of `target` changed a little, and what puts the picture in.

    The labels are all right and no input of the deployed model is changed: one picture of the class
    `source` that is in no split (the mean of two like samples) shall be read as `target`. So the
    "trigger" replaces every input by that picture.

    Args:
        split: what is poisoned.
        random: draws pictures and the samples that are changed.
        rate: share of all samples that are changed.
        source: the picture's class.
        target: what it shall be read as.
        epsilon: greatest change of an entry, as a share of the box.
        steps: of the descent.
        candidates: pictures by lot, of which the one is taken that the surrogates rightly read and
            find most like the target; 1 takes the first, as published.
        surrogates: models that the poisoner trains, whose gradients are matched together.
        model: their recipe, in double quotes where it has options: model="mlp:epochs=5".

    Raises:
        BadOption: a rate, class, epsilon or count that is not allowed, or no such model.
        BadInput: the target class has too few samples, or the source class fewer than two.
        NotApplicable: the surrogate has no gradient.
    """
    _check(split, rate, epsilon, source, target)
    counts = {"steps": steps, "candidates": candidates, "surrogates": surrogates}
    for name, count in counts.items():
        if count < 1:
            raise BadOption(f"gradient_matching: {name}={count} is not allowed: 1 or more")
    rows = taken(split, split.y == target, rate, random, of=len(split))
    teachers = [fitted(split, model, seed) for seed in range(surrogates)]
    pictures = unseen(split, source, candidates, random)
    picture = pictures[_easiest(teachers, pictures, source, target)]

    def trigger(x: Tensor) -> Tensor:
        return picture.to(x).expand_as(x).clone()

    if not len(rows):
        return split, trigger
    start = random.at(rows.to(split.ids.device)).uniform(tuple(split.x.shape[1:]), "start")
    changed = brewed(split, rows, picture, teachers, epsilon=epsilon, steps=steps, start=start)
    return replace(split, x=split.x.index_copy(0, rows, changed)), trigger


def unseen(split: Split, source: int, count: int, random: Random) -> Tensor:
    """Return pictures (N, *S) that are in no split: means of a sample and the one most like it.

    Args:
        split: the whole.
        source: their class.
        count: how many, or as many as the class has samples.
        random: draws the samples.

    Raises:
        BadInput: the class has fewer than two samples.
    """
    of_class = split.x[split.y == source]
    if len(of_class) < 2:
        raise BadInput(
            f"gradient_matching: class source={source} has {len(of_class)} samples; 2 are needed"
        )
    lot = random.uniform((1,), "picture")[:, 0].to(split.x.device)[split.y == source]
    first = lot.argsort(stable=True)[:count]
    far = torch.cdist(of_class[first].flatten(1), of_class.flatten(1))
    far.scatter_(1, first[:, None], torch.inf)
    return (of_class[first] + of_class[far.argmin(1)]) / 2


def brewed(
    split: Split,
    rows: Tensor,
    picture: Tensor,
    teachers: list[nn.Module],
    /,
    *,
    epsilon: float,
    steps: int,
    start: Tensor,
) -> Tensor:
    """Return the samples (M, *S) at `rows`, changed so that learning them teaches their label.

    Their mean gradient of the loss is turned towards that of the picture under the same label, for
    all teachers' parameters; of all steps the best is returned.

    Args:
        split: the whole.
        rows: (M,) of it, all of one class.
        picture: (*S), what shall be read as that class.
        teachers: fitted models.
        epsilon: greatest change of an entry, as a share of the box.
        steps: of signed Adam, the rate divided by ten after 3/8, 5/8 and 7/8 of them.
        start: (M, *S) in [0, 1), where within the budget to begin.

    Raises:
        NotApplicable: a teacher has no parameters with a gradient.
    """
    x, y, reach = split.x[rows], split.y[rows], epsilon * (split.high - split.low)
    wanted = [_gradient(teacher, picture[None], y[:1], False) for teacher in teachers]
    change = ((2 * start.to(x) - 1) * reach).requires_grad_()
    optimizer = torch.optim.Adam([change], lr=STEP * max(reach, 1e-12))
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [round(steps * share) for share in (3 / 8, 5 / 8, 7 / 8)], 0.1
    )
    best, least = x, float("inf")
    for _ in range(steps + 1):
        candidate = (x + change).clamp(split.low, split.high)
        loss = _mismatch(teachers, wanted, candidate, y)
        if (now := float(loss.detach())) < least:
            best, least = candidate.detach(), now
        (slope,) = torch.autograd.grad(loss, change)
        change.grad = slope.sign()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            change.clamp_(-reach, reach)
    return best


def _easiest(teachers: list[nn.Module], pictures: Tensor, source: int, target: int) -> int:
    """Return which picture is most like the target, of those that all teachers read as `source`."""
    with torch.no_grad():
        read = torch.stack([teacher(pictures) for teacher in teachers])
    likeness = read.log_softmax(2)[:, :, target].mean(0)
    wrong = (read.argmax(2) != source).any(0)
    return int(torch.where(wrong, likeness - 1e6, likeness).argmax())


def _check(split: Split, rate: float, epsilon: float, source: int, target: int) -> None:
    check_rate("gradient_matching", rate)
    check_rate("gradient_matching", epsilon, "epsilon")
    check_class("gradient_matching", "source", source, split)
    check_class("gradient_matching", "target", target, split)
    if source == target:
        raise BadOption(f"gradient_matching: source={source} and target={target} are the same")


def _mismatch(teachers: list[nn.Module], wanted: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Return 1 minus the cosine of the two gradients, the mean over teachers."""
    losses = [
        1 - cosine_similarity(_gradient(teacher, x, y, True), goal, dim=0)
        for teacher, goal in zip(teachers, wanted, strict=True)
    ]
    return torch.stack(losses).mean()


def _gradient(model: Any, x: Tensor, y: Tensor, again: bool) -> Tensor:
    """Return the gradient (P,) of the mean loss with respect to the parameters, itself a graph."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise NotApplicable("gradient_matching needs a surrogate with parameters to be learnt")
    loss = cross_entropy(model(x), y)
    parts = torch.autograd.grad(loss, parameters, create_graph=again)
    return torch.cat([part.flatten() for part in parts])
