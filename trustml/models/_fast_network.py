"""The network of whitened patches that learns in few epochs, by a course of its own."""

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from trustml.contracts import Course, Domain, Split, Training
from trustml.errors import BadOption
from trustml.models._fast_course import Moves, fast_course, reflected
from trustml.models._network import UnitBox, need_images, too_small

LEAST = 9
PATCH = 2
# Pictures that patches are taken from, and what keeps their least directions from being blown up.
SEEN, FLOOR = 5000, 5e-4
# Batch statistics hardly outlive the batch, as the weights move fast.
FORGETTING = 0.4
SHRINK = 9.0
# Weight of the picture itself among its views; those beside it share the rest.
CENTRE = 0.5


def fast_network(
    name: str,
    domain: Domain,
    channels: tuple[int, ...],
    *,
    residual: bool,
    shift: int,
    mirror: bool | None,
    views: str,
) -> nn.Module:
    """Return the network for the domain, untrained.

    Raises:
        BadOption: a width below 1, more groups than the picture can be halved, or no such shift.
        NotApplicable: the inputs are no images, or smaller than 9x9.
    """
    colours, *sides = need_images(name, domain)
    least = min(sides)
    if least < LEAST:
        raise too_small(name, domain, f"{LEAST}x{LEAST}")
    most = (least - PATCH + 1).bit_length() - 1
    if not 1 <= len(channels) <= most or min(channels) < 1:
        raise BadOption(
            f"{name}: channels={list(channels)} is not allowed: 1 to {most} widths for these "
            f"pictures, all 1 or more"
        )
    if not 0 <= shift < least:
        raise BadOption(f"{name}: shift={shift} is not allowed: 0 to {least - 1} pixels")
    moves = Moves(shift, colours == 3 if mirror is None else mirror)
    return FastNet(domain, channels, residual, moves, views)


class FastNet(nn.Module):
    """The network; `whiten` is set from the data when a training begins, and then stays."""

    mean: Tensor
    spread: Tensor

    def __init__(
        self, domain: Domain, channels: tuple[int, ...], residual: bool, moves: Moves, views: str
    ) -> None:
        super().__init__()
        self.scale, colours = UnitBox(domain), domain.shape[0]
        self.moves, self.views = moves, views
        self.register_buffer("mean", torch.zeros(colours, 1, 1))
        self.register_buffer("spread", torch.ones(colours, 1, 1))
        before = 2 * colours * PATCH**2
        self.whiten = nn.Conv2d(colours, before, PATCH)
        self.whiten.weight.requires_grad_(False)
        groups = []
        for width in channels:
            groups.append(Group(before, width, residual))
            before = width
        self.body = nn.Sequential(nn.GELU(), *groups)
        self.head = nn.Linear(before, domain.classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the maxima over places after the last group, shrunk, (B, D)."""
        x = self.scale(x)
        if self.training or self.views == "one":
            return self._read(x)
        faces = x, x.flip(3)
        seen = 0.5 * (self._read(faces[0]) + self._read(faces[1]))
        if self.views == "mirror":
            return seen
        beside = [self._read(_slid(face, way)) for face in faces for way in (-1, 1)]
        return CENTRE * seen + (1 - CENTRE) / len(beside) * torch.stack(beside).sum(0)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def course(self, train: Split, steps: int, training: Training, seed: int) -> Course:
        """Whiten by the patches of the training pictures; return the course of few epochs.

        Raises:
            BadOption: another optimizer than sgd.
        """
        self.see(train.x[:SEEN])
        return fast_course(self, train, steps, training, seed, self.moves)

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """Set the first layer to what makes patches of x (B, C, H, W) uncorrelated, of variance 1.

        Its channels are the patches' principal directions, each over its standard deviation, and
        the same with the other sign.
        """
        x = self.scale(x)
        self.mean.copy_(x.mean((0, 2, 3))[:, None, None])
        self.spread.copy_(x.std((0, 2, 3)).clamp_min(FLOOR)[:, None, None])
        patches = unfold((x - self.mean) / self.spread, PATCH).transpose(1, 2).flatten(0, 1)
        patches = patches.double()
        middle = patches.mean(0)
        covariance = (patches - middle).T @ (patches - middle) / len(patches)
        variances, directions = torch.linalg.eigh(covariance)
        # A sign belongs to no direction: fix it, that another machine finds the same.
        directions = directions * _sign(directions)
        filters = (directions / (variances.clamp_min(0) + FLOOR).sqrt()).T
        filters = filters.reshape(len(filters), *self.whiten.weight.shape[1:])
        self.whiten.weight.copy_(torch.cat([filters, -filters]))
        if self.whiten.bias is not None:
            self.whiten.bias.zero_()

    def _read(self, x: Tensor) -> Tensor:
        maps: Tensor = self.body(self.whiten((x - self.mean) / self.spread))
        return maps.amax((2, 3)) / SHRINK


class Group(nn.Module):
    """Convolution, halving by maxima, normalisation; a second convolution with normalisation."""

    def __init__(self, before: int, width: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.first, self.second = _convolution(before, width), _convolution(width, width)
        self.halve, self.bend = nn.MaxPool2d(2), nn.GELU()
        self.norm, self.again = _normalisation(width), _normalisation(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H/2, W/2)."""
        x = self.bend(self.norm(self.halve(self.first(x))))
        after = self.again(self.second(x))
        bent: Tensor = self.bend(after + x if self.residual else after)
        return bent


def _convolution(before: int, width: int) -> nn.Conv2d:
    """Return a 3x3 convolution that begins by passing on what it can of its input."""
    layer = nn.Conv2d(before, width, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[: min(before, width)])
    return layer


def _normalisation(width: int) -> nn.BatchNorm2d:
    """Return a batch normalisation that learns a bias and no scale."""
    layer = nn.BatchNorm2d(width, momentum=FORGETTING)
    layer.weight.requires_grad_(False)
    return layer


def _sign(directions: Tensor) -> Tensor:
    """Return for each column the sign of its largest entry."""
    largest = directions.abs().argmax(0, keepdim=True)
    return directions.gather(0, largest).sign()


def _slid(x: Tensor, way: int) -> Tensor:
    """Return pictures moved by `way` pixels down and to the right; edges are reflected."""
    places = (torch.arange(size, device=x.device) + way for size in x.shape[2:])
    down, right = (reflected(p, n) for p, n in zip(places, x.shape[2:], strict=True))
    return x[:, :, down][:, :, :, right]
