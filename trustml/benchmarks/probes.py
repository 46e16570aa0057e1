"""Measurements on a model that show whether attacks can be trusted to see through it.

Each takes at most some hundred samples and a few passes, draws its random numbers by sample, and
leaves modes, gradients and the global random state as they were.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from trustml.access import frozen
from trustml.contracts import Norm, Split
from trustml.geometry import pull, steepest
from trustml.randomness import Keyed, keyed
from trustml.training import seeded

# Radii as shares of the box: near enough for a derivative, and as far as a small attack goes.
NEAR, FAR = 1e-3, 1e-2
_RATIO = 16
# How often a model is asked the same: one that alternates shows it at once, others later.
_TIMES = 4
_DROPOUTS = tuple(
    getattr(functional, name)
    for name in dir(functional)
    if "dropout" in name and not name.startswith("_")
)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model and the samples (B, *S) that it reads rightly, on its device."""

    module: nn.Module
    x: Tensor
    y: Tensor
    low: float
    high: float
    random: Keyed
    seed: int

    @property
    def width(self) -> float:
        """How wide the box is."""
        return self.high - self.low


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Margins (B,) of the label over the best other class, the lowest so far, at some steps.

    Below 0 the sample is misread.
    """

    start: Tensor
    at: dict[int, Tensor]


def subject(
    module: nn.Module, split: Split, right: Tensor, seed: int, device: torch.device, most: int = 128
) -> Subject:
    """Return at most `most` of the rightly read samples, drawn by seed and sample id."""
    rows = right.nonzero()[:, 0].cpu()
    ids = split.ids.cpu()[rows]
    order = keyed(seed, ids).uniform((), "probes").argsort(stable=True)[:most]
    # In the order of their ids, so that the order of the data plays no part.
    rows = rows[order][ids[order].argsort()]
    part = split.at(rows).to(device)
    random = keyed(seed, part.ids)
    return Subject(module, part.x, part.y, split.low, split.high, random, seed)


def unequal_answers(seen: Subject) -> float:
    """Return the share of samples that the model answers differently when asked again."""
    with _quiet(seen), torch.no_grad():
        first, *others = [seen.module(seen.x) for _ in range(_TIMES)]
    apart = torch.stack([(first - other).abs().amax(1) for other in others]).amax(0)
    return float((apart > 1e-5 * (1 + first.abs().amax(1))).double().mean())


def live_dropouts(seen: Subject) -> int:
    """Return how many calls of dropout are in force in evaluation mode."""
    with _quiet(seen), torch.no_grad(), _Dropouts() as found:
        seen.module(seen.x[:2])
    return found.live


def probability_rows(seen: Subject) -> float:
    """Return the share of answers that are probabilities: within [0, 1], with a sum of 1."""
    with _quiet(seen), torch.no_grad():
        answers = seen.module(seen.x).double()
    inside = ((answers >= 0) & (answers <= 1)).all(1)
    return float((inside & ((answers.sum(1) - 1).abs() < 1e-4)).double().mean())


def gradients(seen: Subject) -> tuple[Tensor, Tensor] | None:
    """Return each sample's largest gradient entry (B,) of cross-entropy and of the margin.

    None if the answers have no gradient with respect to the inputs.
    """
    with _quiet(seen), torch.enable_grad():
        x = seen.x.clone().requires_grad_()
        try:
            logits = seen.module(x)
            losses = (
                functional.cross_entropy(logits, seen.y, reduction="sum"),
                margin(logits, seen.y).sum(),
            )
            found = [torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in losses]
        except RuntimeError:  # what torch says of a graph that is cut
            return None
    return found[0].flatten(1).abs().amax(1), found[1].flatten(1).abs().amax(1)


def gradient_mismatch(seen: Subject, draws: int = 4) -> float:
    """Return how far differences of the margin over a tiny distance are from its gradient, 0 to 1.

    The sum of |difference quotient − gradient · direction| over the sum of both sizes, along random
    signs from random points beside the samples.
    """
    apart = total = torch.zeros((), dtype=torch.float64)
    near = NEAR * seen.width
    for draw in range(draws):
        x, direction = _beside(seen, draw)
        with _quiet(seen), torch.enable_grad():
            x = x.requires_grad_()
            value = margin(seen.module(x), seen.y).sum()
            (gradient,) = torch.autograd.grad(value, x)
        slope = (gradient * direction).flatten(1).sum(1).double()
        quotient = _difference(seen, x.detach(), near * direction) / (2 * near)
        apart = apart + (quotient - slope).abs().sum().cpu()
        total = total + quotient.abs().sum().cpu() + slope.abs().sum().cpu()
    return float(apart / total) if total > 0 else 0.0


def roughness(seen: Subject, draws: int = 4) -> tuple[float, float]:
    """Return how the margin changes over random moves: relative size, and exponent of its growth.

    The size is the mean change over a move of FAR · width, relative to the mean margin. The
    exponent compares the root-mean-square changes of two lengths: 1 for a smooth function, 1/2 for
    one that jumps, as then the chance of a jump grows with the length and its size does not.
    """
    far = FAR * seen.width
    long, short, size = [], [], []
    for draw in range(draws):
        x, direction = _beside(seen, draw)
        with _quiet(seen), torch.no_grad():
            size.append(margin(seen.module(x), seen.y).double().abs())
        long.append(_difference(seen, x, far / 2 * direction))
        short.append(_difference(seen, x, far / 2 / _RATIO * direction))
    changes, small = torch.cat(long), torch.cat(short)
    relative = float(changes.abs().mean() / torch.cat(size).mean().clamp_min(1e-30))
    rms, rms_small = (float(part.square().mean().sqrt()) for part in (changes, small))
    if rms == 0 or rms_small == 0:
        # Nothing moves it at all: no jump has been seen.
        return relative, 1.0 if rms == 0 else 0.0
    return relative, float(
        torch.log(torch.tensor(rms / rms_small)) / torch.log(torch.tensor(float(_RATIO)))
    )


def climbed(
    seen: Subject, norm: Norm, epsilon: float, *, steps: tuple[int, ...] = (10, 20, 40), step: float
) -> Trace:
    """Return the lowest margins of a walk up the cross-entropy, after each of `steps` moves.

    Args:
        seen: the model and samples; its answers must have a gradient.
        norm: of the ball.
        epsilon: of the ball; infinity leaves the box.
        steps: when to look, in rising order; the walk ends early once all are misread.
        step: length of a move in the norm.
    """
    far = torch.tensor(epsilon, dtype=torch.float64, device=seen.x.device)
    share = max(1, seen.x[0].numel() // 20)
    point, best, trace = seen.x, None, {}
    start = seen.x.new_zeros(())
    for count in range(steps[-1] + 1):
        with _quiet(seen), torch.enable_grad():
            point = point.detach().requires_grad_()
            logits = seen.module(point)
            loss = functional.cross_entropy(logits, seen.y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, point)
        now = margin(logits.detach(), seen.y)
        best = now if best is None else torch.minimum(best, now)
        start = now if count == 0 else start
        if count in steps:
            trace[count] = best
            if bool((best < 0).all()):
                break
        move = step * steepest(gradient, norm, share)
        point = pull(point.detach() + move, seen.x, norm, far, (seen.low, seen.high))
    assert best is not None
    return Trace(start, {count: trace.get(count, best) for count in steps})


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logit of y minus the highest other (B,)."""
    own = logits.gather(1, y[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def _beside(seen: Subject, draw: int) -> tuple[Tensor, Tensor]:
    """Return random points near the samples, off the walls of the box, and random signs (B, *S)."""
    shape = tuple(seen.x.shape[1:])
    aside = 2 * seen.random.uniform(shape, "beside", draw) - 1
    edge = FAR * seen.width
    x = (seen.x + 2 * edge * aside).clamp(seen.low + edge, seen.high - edge)
    return x, seen.random.integers(2, shape, "direction", draw).to(x.dtype) * 2 - 1


def _difference(seen: Subject, x: Tensor, move: Tensor) -> Tensor:
    """Return the margin at x + move minus that at x − move (B,), in float64."""
    with _quiet(seen), torch.no_grad():
        logits = seen.module(torch.cat([x + move, x - move])).double()
    ahead, behind = margin(logits, seen.y.repeat(2)).chunk(2)
    return ahead - behind


@contextmanager
def _quiet(seen: Subject) -> Iterator[None]:
    """Freeze the model, and keep its random draws to themselves."""
    with frozen(seen.module), seeded(seen.seed):
        yield


class _Dropouts(TorchFunctionMode):
    """Counts the calls of dropout that are made with training=True."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            training = kwargs.get("training", args[2] if len(args) > 2 else True)
            rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            self.live += bool(training) and rate > 0
        return func(*args, **kwargs)
