"""The queries of a thief as a set to be told from ordinary inputs."""

from typing import Any

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.setting import blaming
from trustml.contracts import Access, Split, Terms
from trustml.errors import MethodFailed, TrustError
from trustml.recipes import choose, of_a_copy
from trustml.registry import names
from trustml.store import build
from trustml.victim import Service

STEALING = "stealing"
# Each asks in a way of its own: corners of the box, noise, ordinary inputs moved, lines between.
THIEVES = (
    "linear_exact",
    "knockoff:inputs=noise,snapshots=1",
    "knockoff:inputs=shifted,snapshots=1",
    "jacobian_augmentation",
)
MOST = 1000  # queries that are kept of a thief
POOL = 200  # test inputs that a thief has to begin with
ID = 20_000_000_000_000  # above those of any other set


class _Enough(Exception):
    """So many queries were seen as were wanted."""


def stolen_or(name: str) -> tuple[str, ...]:
    """Return the thieves that `stealing` stands for, or just the name."""
    return THIEVES if name == STEALING else (name,)


def is_thief(name: str) -> bool:
    """Return whether a set is what a stealer asks."""
    return name.split(":")[0] in names("stealer")


def stolen_split(name: str, bench: Bench) -> Split:
    """Return what the thief asks the model, at most as many queries as the plan examines samples.

    It is stopped when so many are seen. The victim answers logits, and explains them.

    Raises:
        BadOption: an option that the thief does not have.
        TrustError: it stopped before it asked anything.
    """
    thief, setting, test = choose("stealer", name), bench.setting, bench.dataset.test
    asked = _Asked(min(bench.plan.limit or MOST, MOST))
    terms = Terms(answers=Access.LOGITS, explains="logit", inputs="box")
    model = _Elsewhere(setting.module, bench.device)
    victim = Service(model, setting.split.domain, terms, gates=[asked])
    random = torch.Generator().manual_seed(bench.plan.seed)
    try:
        with blaming(f"stealer {thief.plugin.name}"):
            thief.plugin.function(
                victim,
                test.x[-POOL:],
                lambda: build(of_a_copy(setting.recipe), test.domain, bench.plan.seed),
                random=random,
                **thief.options,
            )
    except TrustError:
        # It was stopped, or it found out that it is not for this model: what it asked, it asked.
        if not asked.seen:
            raise
    if not asked.seen:
        raise MethodFailed(f"stealer {thief.plugin.name} asked nothing")
    x = torch.cat(asked.seen)[: asked.limit].float().cpu()
    y, ids = torch.zeros(len(x), dtype=torch.long), ID + torch.arange(len(x))
    return Split(x, y, ids, test.classes, test.low, test.high)


class _Asked:
    """What a thief asks, until there is enough of it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor, _: Tensor) -> None:
        """Take the inputs of one call.

        Raises:
            _Enough: there are as many as are wanted.
        """
        self.seen.append(x.detach().clone())
        if sum(map(len, self.seen)) >= self.limit:
            raise _Enough


class _Elsewhere:
    """A model that takes and gives tensors on the CPU, wherever it is."""

    def __init__(self, module: Any, device: torch.device) -> None:
        self._module, self._device = module, device

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the logits (B, K)."""
        with frozen(self._module):
            logits: Tensor = self._module(x.to(self._device))
        return logits.cpu()

    def features(self, x: Tensor, /) -> Tensor:
        """Return the features (B, D)."""
        features: Tensor = self._module.features(x.to(self._device))
        return features.cpu()
