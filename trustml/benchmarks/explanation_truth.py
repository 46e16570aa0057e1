"""Does an explanation point to what was planted? Mosaics of inputs, and a trigger patch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trustml.benchmarks.explained import Explained, generator, places, worth
from trustml.benchmarks.explanation_scores import Measured, mean_of
from trustml.contracts import Classifier
from trustml.errors import BadInput, NotApplicable

# What a whole patch adds to its class's logit.
_LOUD = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class Localisation:
    """Three readings of one map: does its peak, its positive mass, its top lie within the truth?"""

    pointing: Measured
    mass: Measured
    top: Measured


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """Inputs whose evidence for the target lies within `truth` (B, *S), for the model given."""

    model: nn.Module
    x: Tensor
    target: Tensor
    truth: Tensor


def localisation(explained: Explained, baseline: Tensor, truth: Tensor) -> Localisation:
    """Return how well maps point to the truth (B, *S), a mask; higher is better everywhere.

    pointing: the largest part lies within (Zhang et al. 2018). mass: the share of positive parts
    that does, 0 where none is positive. top: the share of the n largest parts, n the truth's size
    (Arras et al. 2022, arXiv:2003.07258). A random map gets the truth's share of the area.

    Raises:
        BadInput: a mask of another shape, or one that is empty or everything.
    """
    if truth.shape != explained.x.shape or truth.dtype != torch.bool:
        raise BadInput(f"the truth {tuple(truth.shape)} must be a mask like x, of type bool")
    parts, within = places(explained.parts(baseline)), places(truth.double()) > 0
    size = within.sum(1)
    if bool(((size == 0) | (size == within.shape[1])).any()):
        raise BadInput("each truth must hold some places and leave some out")
    gain = parts.clamp_min(0)
    mass = (gain * within).sum(1) / gain.sum(1).clamp_min(1e-300)
    rank = parts.argsort(dim=1, descending=True, stable=True).argsort(1)
    top = ((rank < size[:, None]) & within).sum(1) / size
    hit = within.gather(1, parts.argmax(1, keepdim=True))[:, 0].double()
    return Localisation(*(mean_of(values, "higher") for values in (hit, mass, top)))


def mosaics(model: nn.Module, x: Tensor, y: Tensor, *, count: int, seed: int = 0) -> Planted:
    """Return `count` images of 2 by 2 inputs of four classes, for the model's mean over the cells.

    The first cell's class is the target and its place is random (the grid pointing game: Böhle et
    al. 2021, arXiv:2104.00032). Give inputs that the model is sure of.

    Raises:
        NotApplicable: the inputs are no images, or are of fewer than four classes.
    """
    if x.dim() != 4:
        raise NotApplicable(f"a mosaic is made of images, not of {tuple(x.shape[1:])}")
    classes = y.unique()
    if len(classes) < 4:
        raise NotApplicable(f"a mosaic needs inputs of four classes, and there are {len(classes)}")
    draw = generator(seed)
    canvas, target, truth = [], [], []
    for _ in range(count):
        chosen = classes[torch.randperm(len(classes), generator=draw)[:4].to(classes.device)]
        rows = torch.stack([_any_of(y == one, draw) for one in chosen])
        place = int(torch.randint(4, (), generator=draw))
        cells = x[rows].roll(place, 0)
        mask = torch.zeros_like(cells, dtype=torch.bool)
        mask[place] = True
        canvas.append(_joined(cells))
        truth.append(_joined(mask))
        target.append(chosen[0])
    return Planted(Mosaic(model), torch.stack(canvas), torch.stack(target), torch.stack(truth))


def by_cells(explained: Explained, model: Classifier) -> Measured:
    """Return the cosine (B,) of a mosaic's four sums of parts and what its cells really contribute.

    The planted model adds its cells up, so that each contributes what the model itself gives it
    beyond black: 1 for every map that shares sums out as they are made, about 0 for a random one.

    Args:
        explained: mosaics of four cells and their maps, background black.
        model: the one that reads the cells.
    """
    said = _quarters(explained.parts(torch.zeros_like(explained.x))).flatten(1).sum(1).view(-1, 4)
    cells, wanted = _quarters(explained.x), explained.target.repeat_interleave(4)
    black = torch.zeros_like(cells[: len(explained.x)])
    real = worth(model, cells, wanted).view(-1, 4) - worth(model, black, explained.target)[:, None]
    sizes = said.norm(dim=1) * real.norm(dim=1)
    return mean_of((said * real).sum(1) / sizes.clamp_min(1e-300), "higher")


def triggered(
    model: nn.Module, x: Tensor, target: Tensor, *, side: int = 3, value: float = 1.0,
    seed: int = 0,
) -> Planted:  # fmt: skip
    """Return inputs with a patch at a random place, and a model in which it calls the target.

    The planted model adds to the target's logit a number in proportion to the patch's brightness,
    as loud as a backdoor; the truth is known without training one. In an affine model the exact
    parts within are 100 plus the weights there, so that their share is 1 less what speaks outside.

    Args:
        model: any classifier.
        x: images (B, C, H, W).
        target: the class that the patch calls (B,).
        side: of the square patch.
        value: of its pixels, 0 elsewhere in the pattern that is looked for.
        seed: of its places.

    Raises:
        NotApplicable: the inputs are no images, or smaller than the patch.
        BadInput: more than one target.
    """
    if x.dim() != 4 or min(x.shape[2:]) <= side:
        raise NotApplicable(f"a patch of {side} does not fit inputs of {tuple(x.shape[1:])}")
    if bool((target != target[0]).any()):
        raise BadInput("one trigger calls one class: give the same target for all inputs")
    draw = generator(seed)
    row, column = (int(torch.randint(edge - side + 1, (), generator=draw)) for edge in x.shape[2:])
    truth = torch.zeros_like(x, dtype=torch.bool)
    truth[:, :, row : row + side, column : column + side] = True
    stamped = torch.where(truth, torch.full_like(x, value), x)
    planted = Triggered(model, truth[0].flatten(), value, target[:1])
    return Planted(planted, stamped, target, truth)


class Mosaic(nn.Module):
    """The mean of the model's logits over the four quarters of an image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def features(self, x: Tensor) -> Tensor:
        """Return the quarters' mean features (B, D)."""
        found: Tensor = self.model.features(_quarters(x))  # type: ignore[operator]
        return found.view(len(x), 4, -1).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.model(_quarters(x))
        return logits.view(len(x), 4, -1).mean(1)


class Triggered(nn.Module):
    """A model whose target's logit also rises with a patch, by more than all else can lower it.

    What is planted is affine, so that an affine model stays one and has an exact explanation.
    """

    def __init__(self, model: nn.Module, mask: Tensor, value: float, target: Tensor) -> None:
        super().__init__()
        self.model = model
        self.look = nn.Linear(len(mask), 1, bias=False)
        with torch.no_grad():
            self.look.weight.copy_(_LOUD * mask[None] / (int(mask.sum()) * value))
        self.to(mask.device)
        self.target = int(target[0])

    def features(self, x: Tensor) -> Tensor:
        """Return the model's features (B, D)."""
        found: Tensor = self.model.features(x)  # type: ignore[operator]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.model(x)
        chosen = torch.zeros_like(logits[:1])
        chosen[:, self.target] = 1
        return logits + self.look(x.flatten(1)) * chosen


def _any_of(mask: Tensor, draw: torch.Generator) -> Tensor:
    rows = mask.nonzero()[:, 0]
    return rows[int(torch.randint(len(rows), (), generator=draw))]


def _joined(cells: Tensor) -> Tensor:
    """Return the image (C, 2H, 2W) of four cells (4, C, H, W), row by row."""
    rows = [torch.cat([cells[first], cells[first + 1]], -1) for first in (0, 2)]
    return torch.cat(rows, -2)


def _quarters(x: Tensor) -> Tensor:
    """Return the quarters (4 B, C, H, W), image after image: halves of a batch stay halves."""
    height, width = (side // 2 for side in x.shape[2:])
    cells = [
        x[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row in (0, 1)
        for column in (0, 1)
    ]
    return torch.stack(cells, 1).flatten(0, 1)
