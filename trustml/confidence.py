"""Learning the true-class probability: the head of ConfidNet, its fit, and its fine-tuning.

A network's greatest probability is high for errors too; the probability that it gave the true class
is low for every error. It is not known for a new input, so a head learns it (Corbière et al. 2019).
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from trustml.errors import BadOption, MethodFailed
from trustml.progress import progress
from trustml.training import seeded, threads_for

BATCH = 128
HELD = 5  # every so-manieth sample is kept to choose the step that the weights are taken from
LEAST = 10
CHECKS = 50
# Published: a learning rate of the fine-tuning far below that of the head.
SLOWER = 100


class ConfidenceHead(nn.Module):
    """Features (B, D) → the logit of the probability that the true class has, (B,)."""

    def __init__(self, width: int, hidden: tuple[int, ...]) -> None:
        """Make layers of the widths `hidden`, for features of the given width.

        Raises:
            BadOption: a width below 1.
        """
        super().__init__()
        if any(size < 1 for size in hidden):
            raise BadOption(f"hidden={list(hidden)} is not allowed: every width must be 1 or more")
        self.register_buffer("middle", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        layers: list[nn.Module] = []
        for before, size in zip((width, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, size), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear((width, *hidden)[-1], 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B,)."""
        logits: Tensor = self.layers((features - self.middle) * self.scale)
        return logits[:, 0]

    def start_from(self, features: Tensor, target: Tensor) -> None:
        """Take the features' middle and spread, and begin at the targets' mean.

        Nearly all targets are close to 1: from elsewhere the sigmoid saturates there and learns
        nothing more.
        """
        spread = features.std(0, correction=0)
        self.middle = features.mean(0)
        self.scale = torch.where(spread > 0, 1 / spread, 0.0)
        mean = float(target.double().mean().clamp(1e-3, 1 - 1e-3))
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.fill_(math.log(mean / (1 - mean)))


class ConfidenceReader(nn.Module):
    """Inputs (B, *S) → the logit of the confidence, by an encoder of one's own and a head."""

    def __init__(self, encoder: nn.Module, head: ConfidenceHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B,)."""
        logits: Tensor = self.head(self.encoder.features(x))  # type: ignore[operator]
        return logits


def true_class_probability(logits: Tensor, y: Tensor) -> Tensor:
    """Return the probability (B,) that logits (B, K) give the class y (B,).

    Above ½ the answer is right; below 1/K it is wrong.
    """
    p = logits.detach().double().softmax(1).gather(1, y[:, None])[:, 0]
    return p.to(torch.float32)


def fit_head(
    head: ConfidenceHead,
    features: Tensor,
    target: Tensor,
    *,
    steps: int,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Fit the head in place to features (B, D) and true-class probabilities (B,), by least squares.

    The features should be of inputs that the network has not learnt from: on the others it is
    nearly always right, and there is nothing to learn.

    Raises:
        BadOption: steps or a learning rate that are out of range, or fewer than 10 samples.
        MethodFailed: the loss is not a number.
    """
    head.start_from(features, target)
    _descend(head, features, target, steps, learning_rate, seed)


def fine_tuned(
    encoder: nn.Module,
    head: ConfidenceHead,
    x: Tensor,
    target: Tensor,
    *,
    steps: int,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> ConfidenceReader:
    """Return a copy of the encoder with the head, both fitted on at a hundredth of the rate.

    The encoder stays in evaluation mode (no dropout, no batch statistics), and the classifier that
    it is copied from as it was.

    Raises:
        BadOption: steps or a learning rate that are out of range, or fewer than 10 samples.
        MethodFailed: the loss is not a number.
    """
    reader = ConfidenceReader(copy.deepcopy(encoder), head).eval()
    for weight in reader.parameters():
        weight.requires_grad_(True)
    _descend(reader, x, target, steps, learning_rate / SLOWER, seed)
    return reader


def _descend(
    module: nn.Module, inputs: Tensor, target: Tensor, steps: int, rate: float, seed: int
) -> None:
    """Take the steps, and leave the weights that were best on every fifth sample."""
    if steps < 1 or not (math.isfinite(rate) and rate > 0):
        raise BadOption(f"steps={steps} must be 1 or more, and the learning rate above 0: {rate}")
    if len(target) < LEAST:
        raise BadOption(f"{len(target)} samples are too few to learn confidence: give {LEAST}")
    rows = torch.arange(len(target), device=inputs.device)
    held, mine = rows[rows % HELD == 0], rows[rows % HELD != 0]
    order = torch.Generator().manual_seed(seed)
    module.eval()
    adam = torch.optim.Adam(module.parameters(), lr=rate)
    best, kept = math.inf, module.state_dict()
    every = max(1, steps // CHECKS)
    with (
        torch.enable_grad(),
        seeded(seed),
        threads_for(module, inputs[:BATCH]),
        progress("confidence", steps) as advance,
    ):
        for step in range(steps + 1):
            if step % every == 0 or step == steps:
                error = _error(module, inputs[held], target[held])
                if not math.isfinite(error):
                    raise MethodFailed(
                        f"learning confidence: the loss is not a number after {step} steps; try a "
                        f"learning rate below {rate:g}"
                    )
                if error < best:
                    best = error
                    kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            if step == steps:
                break
            drawn = mine[torch.randint(len(mine), (BATCH,), generator=order).to(mine.device)]
            loss = mse_loss(module(inputs[drawn]).sigmoid(), target[drawn])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            advance(1)
    module.load_state_dict(kept)
    module.zero_grad(set_to_none=True)


def _error(module: nn.Module, inputs: Tensor, target: Tensor) -> float:
    with torch.no_grad():
        blocks = [module(part) for part in inputs.split(1000)]
        return float(mse_loss(torch.cat(blocks).sigmoid(), target))
