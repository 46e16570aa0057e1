"""A course of few epochs: pictures moved and mirrored, a triangle of rates, a slow average."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from trustml.contracts import Course, Split, Training
from trustml.errors import BadOption
from trustml.precision import fast_dtype

MOMENTUM, SMOOTHING = 0.85, 0.2
# The batch that rate and decay are meant for; both go with the size of another.
BATCH = 1024
# Normalisations have no scale of their own to learn, so that their biases may go faster.
BIAS_RATE = 64.0
# Shares of the peak rate at the begin and at the end, and of the steps until the peak.
FIRST, LAST, PEAK = 0.2, 0.07, 0.23
# The slow average takes part every so many steps, and less and less of the fast weights.
EVERY, SLOW = 5, 0.95


def fast_course(
    module: nn.Module, train: Split, steps: int, training: Training, seed: int, moves: "Moves"
) -> Course:
    """Return the course of `steps` steps on which the module learns in few epochs.

    Raises:
        BadOption: another optimizer than this course is made of.
    """
    if training.optimizer != "sgd":
        raise BadOption(
            f"optimizer={training.optimizer} is not allowed: this model's own course is one of sgd"
        )
    module.to(memory_format=torch.channels_last)
    scale = training.batch_size / BATCH
    rate, decay = training.learning_rate * scale, training.weight_decay * scale
    quick = {id(part.bias) for part in module.modules() if isinstance(part, nn.BatchNorm2d)}
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    # Decay by itself: a step takes the same share of a weight whatever its group's rate.
    groups = [
        {
            "params": [weight for weight in weights if (id(weight) in quick) == fast],
            "lr": own,
            "weight_decay": decay / own,
        }
        for fast, own in ((False, rate), (True, rate * BIAS_RATE))
    ]
    fused = train.x.device.type in ("cpu", "cuda")
    sgd = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True, fused=fused)
    rates = torch.optim.lr_scheduler.LambdaLR(sgd, lambda step: triangle(step, steps))
    slow = SlowAverage(module, steps)

    def stepped() -> None:
        rates.step()
        slow.step()

    shown = moves.seeded(seed, train.x.device)
    return Course(sgd, stepped, shown, SMOOTHING, fast_dtype(train.x.device))


def triangle(step: int, steps: int) -> float:
    """Return the share of the peak rate: up in a line, and down in a line."""
    place = step / steps
    if place < PEAK:
        return FIRST + (1 - FIRST) * place / PEAK
    return 1 + (LAST - 1) * min(1.0, (place - PEAK) / (1 - PEAK))


class SlowAverage:
    """An average of the weights that they are set to from time to time (Lookahead).

    It follows them closely at first and hardly at the end; the last step leaves the average.
    """

    def __init__(self, module: nn.Module, steps: int) -> None:
        state = module.state_dict().values()
        self._fast = [t for t in state if t.is_floating_point() and t.dim()]
        self._slow = [tensor.clone() for tensor in self._fast]
        self._steps, self._done = steps, 0

    def step(self) -> None:
        """Count one more step; take part where it is time."""
        self._done += 1
        if self._done < self._steps and self._done % EVERY:
            return
        kept = SLOW**EVERY * (self._done / self._steps) ** 3
        with torch.no_grad():
            torch._foreach_lerp_(self._slow, self._fast, 1 - kept)
            torch._foreach_copy_(self._fast, self._slow)


class Moves:
    """What happens to a picture on its way into the training: a shift, a mirror image."""

    def __init__(self, shift: int, mirror: bool) -> None:
        """Move by up to `shift` pixels each way; what comes in at an edge is its reflection."""
        self.shift, self.mirror = shift, mirror

    def seeded(self, seed: int, device: torch.device) -> Callable[[Split, int], Split]:
        """Return (batch, epoch) → the batch, moved by random numbers of the seed."""
        random = Generator(device).manual_seed(seed)

        def shown(batch: Split, epoch: int) -> Split:
            x = self.moved(batch.x, batch.ids, epoch, random)
            return Split(x, batch.y, batch.ids, batch.classes, batch.low, batch.high)

        return shown

    def moved(self, x: Tensor, ids: Tensor, epoch: int, random: Generator) -> Tensor:
        """Return the pictures (B, C, H, W), each with its own shift.

        Mirrored are half of them in one epoch and the other half in the next: so two epochs show
        both faces of each.
        """
        count, height, width = len(x), *x.shape[2:]
        way = torch.randint(
            -self.shift, self.shift + 1, (2, count, 1), generator=random, device=x.device
        )
        down = reflected(torch.arange(height, device=x.device) + way[0], height)
        right = reflected(torch.arange(width, device=x.device) + way[1], width)
        if self.mirror:
            turned = (coins(ids) + epoch) % 2 == 1
            right = torch.where(turned[:, None], width - 1 - right, right)
        rows = torch.arange(count, device=x.device)[:, None, None]
        # The channels come last, as the layers want them.
        return x.permute(0, 2, 3, 1)[rows, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)


def reflected(place: Tensor, size: int) -> Tensor:
    """Return places outside 0 … size-1 mirrored at the edge pixel."""
    place = place.abs()
    return torch.where(place >= size, 2 * (size - 1) - place, place)


def coins(ids: Tensor) -> Tensor:
    """Return 0 or 1 for each sample id (B,), always the same and as good as random."""
    mixed = (ids & 0xFFFFFFFF) * 0x9E3779B1
    return (mixed >> 29) & 1
