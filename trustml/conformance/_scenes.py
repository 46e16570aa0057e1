"""Small settings in which attacks are tried: a model, inputs, labels and a budget a norm."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml import beyond
from trustml.access import Handed, frozen
from trustml.contracts import Measure, Threat
from trustml.errors import MissingPackage, NotApplicable
from trustml.randomness import keyed
from trustml.registry import Plugin

SAMPLES = 11  # odd, and no multiple of the block that a model is fed in
BLOCK = 8
SEED = 5
# What every attack does at each step, it has done after these; a search of thousands takes minutes.
SHORT = {"steps": 25, "queries": 200}
_BUDGETS: dict[Measure, float] = {
    "linf": 0.1, "l2": 0.4, "l1": 1.0, "l0": 3.0,
    "patch": 0.15, "spatial": 0.5, "colour": 5.0, "structure": 0.05, "wasserstein": 0.1,
    "flow": 0.4,
}  # fmt: skip


class Small(nn.Module):
    """A classifier of few layers: `body` gives the features, `head` the logits.

    It computes in float64 and answers in float32, so that its rounding, which can depend on a row's
    place in the batch, is too small to be seen: what differs then, differs because of the attack.
    """

    def __init__(self, body: nn.Sequential, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body.double(), head.double()

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads, (B, D)."""
        features: Tensor = self.body(x.double())
        return features.to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.body(x.double()))
        return logits.to(x.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A model in evaluation mode, inputs (B, *S) in its box, labels of which some are wrong."""

    model: Small
    x: Tensor
    y: Tensor
    low: float
    high: float
    budgets: Mapping[Measure, float]

    def threat(self, norm: Measure, epsilon: float | Tensor, targeted: bool = False) -> Threat:
        """Return the threat of this budget in the scene's box."""
        return beyond.threat(norm, epsilon, self.low, self.high, targeted)

    def attacked(
        self, plugin: Plugin, threat: Threat, rows: Tensor | None = None, *, full: bool = False
    ) -> Tensor:
        """Return the candidates as a run would get them: no more access than the plugin declares.

        Skips where the attack says that it is not for this model, or lacks an optional package.

        Args:
            plugin: the attack.
            threat: for all samples of the scene.
            rows: the samples that share the batch, by default all.
            full: search as long as the attack's defaults say.
        """
        rows = torch.arange(len(self.x)) if rows is None else rows
        handed = Handed(self.model, plugin.facts["needs"], len(rows), block=BLOCK)
        with frozen(self.model):
            x, y = self.x[rows].clone(), self.y[rows].clone()
            return call(plugin, handed, x, y, threat.at(rows), ids=rows, full=full)


def call(
    plugin: Plugin,
    model: Any,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    ids: Tensor,
    full: bool = False,
) -> Tensor:
    """Return the attack's candidates, or skip where it does not apply."""
    options = {} if full else shortened(plugin)
    try:
        candidate: Tensor = plugin.function(model, x, y, threat, random=keyed(SEED, ids), **options)
    except (NotApplicable, MissingPackage) as reason:
        pytest.skip(str(reason))
    return candidate


def shortened(plugin: Plugin) -> dict[str, int]:
    """Return the options that say how long the attack searches, where their defaults are long."""
    return {
        option.name: SHORT[option.name]
        for option in plugin.options
        if option.name in SHORT and option.default > SHORT[option.name]
    }


def scene(name: str, norm: Measure = "linf") -> Scene:
    """Return the scene of the name: image, vector, linear or open, in colours if the norm asks.

    Raises:
        KeyError: there is none of the name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        channels = 3 if norm == "colour" else 1
        return SCENES[name](channels)


def _image(channels: int) -> Scene:
    """Ten classes would need more samples; four are what the DLR loss needs at least."""
    body = nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(16), nn.Tanh()
    )
    return _scene(Small(body, nn.Linear(16, 4)), (channels, 6, 6), (0.0, 1.0), _BUDGETS)


def _vector(channels: int) -> Scene:
    """A box that is not [0, 1], and inputs that are no images."""
    body = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU())
    budgets = {**_BUDGETS, "linf": 0.4, "l2": 0.7, "l1": 1.1, "l0": 2.0}
    return _scene(Small(body, nn.Linear(16, 3)), (5,), (-2.0, 3.0), budgets)


def _linear(channels: int) -> Scene:
    """Two classes, so that the direction of each norm's optimum is known."""
    small = Small(nn.Sequential(nn.Flatten()), nn.Linear(36 * channels, 2))
    return _scene(small, (channels, 6, 6), (0, 1), _BUDGETS)


def _open(channels: int) -> Scene:
    """The linear scene far from the walls and close to the border between the classes."""
    near = _linear(channels)
    x = 0.5 + 0.2 * (near.x - 0.5)
    with torch.no_grad():
        logits = near.model(x)
        near.model.head.bias.sub_(logits.median(0).values)
        return replace(near, x=x, y=near.model(x).argmax(1))


SCENES = {"image": _image, "vector": _vector, "linear": _linear, "open": _open}


def _scene(
    model: Small, shape: tuple[int, ...], box: tuple[float, float], budgets: Mapping[Measure, float]
) -> Scene:
    low, high = box
    x = low + (high - low) * torch.rand(SAMPLES, *shape)
    # Walls matter: some entries stand at the box's edge, as black pixels do.
    x = torch.where(torch.rand_like(x) < 0.2, torch.where(torch.rand_like(x) < 0.5, low, high), x)
    model(x)  # gives batch normalisation statistics that are not its initial ones
    model.eval()
    with torch.no_grad():
        y = model(x).argmax(1)
        y[-1] = (y[-1] + 1) % model.head.out_features
    return Scene(model, x, y, low, high, budgets)
