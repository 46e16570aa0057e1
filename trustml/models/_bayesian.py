"""What the Bayesian networks share: their body, and the log of the mean probability over draws."""

import math
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from trustml.contracts import Domain, Split
from trustml.errors import BadOption, NotApplicable
from trustml.models._network import Network
from trustml.recipes import TRAINING_OPTIONS, choose
from trustml.training import evaluate

# Where the temperature is looked for: the coldest is as good as none, the hottest ten times Bayes.
TEMPERATURES = tuple(torch.logspace(-3, 1, 17, dtype=torch.float64).tolist())

Kept = TypeVar("Kept")


class Memory(Generic[Kept]):
    """Keeps what was computed from a module's weights until a weight or the question changes."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._kept: Kept | None = None

    def __call__(self, module: nn.Module, question: Hashable, compute: Callable[[], Kept]) -> Kept:
        """Return what `compute` returns, or has returned for the same weights and question."""
        tensors = (*module.parameters(), *module.buffers())
        key = (question, *((t.data_ptr(), t._version, t.device) for t in tensors))
        if self._kept is None or key != self._key:
            self._kept, self._key = compute(), key
        return self._kept


def log_mean_probability(draws: Tensor) -> Tensor:
    """Return log of the mean over draws of softmax(logits), (B, K) for logits (S, B, K)."""
    return log_softmax(draws, dim=-1).logsumexp(0) - math.log(len(draws))


def temper(module: nn.Module, temperature: Tensor, validation: Split) -> None:
    """Set the temperature, one of the module's buffers, to where validation labels are likeliest.

    Labels that were checked by several people are less noisy than a softmax takes them for, and
    the posterior of temperature 1 is then too unsure (Aitchison 2021, arXiv:2008.05912).
    """
    losses = []
    for degree in TEMPERATURES:
        temperature.fill_(degree)
        losses.append(evaluate(module, validation)[0])
    temperature.fill_(TEMPERATURES[losses.index(min(losses))])


def body_network(domain: Domain, body: str, *, owner: str = "bnn", **forced: Any) -> Network:
    """Return the network that `body` names, as in `mlp` or `'cnn:channels=[8],kernel=3'`.

    Args:
        domain: what it is built for.
        body: its recipe.
        owner: what messages call the model that it is the body of.
        forced: options of the body that the posterior sets.

    Raises:
        BadOption: the body has training options of its own, or is Bayesian itself.
        NotApplicable: the body is not a chain of layers, or lacks an option that is forced.
        UnknownName: no such model or option.
    """
    choice = choose("model", body)
    defaults = {option.name: option.default for option in choice.plugin.options}
    for name in (*TRAINING_OPTIONS, "weights"):
        if choice.options[name] != defaults[name]:
            raise BadOption(f"{owner}: set {name} on {owner} itself, not in body={body!r}")
    own = {name: value for name, value in choice.options.items() if name not in TRAINING_OPTIONS}
    own.pop("weights")
    missing = [name for name in forced if name not in own]
    module = None if missing else choice.plugin.function(domain, **{**own, **forced})
    if not isinstance(module, Network):
        raise NotApplicable(f"{owner} cannot use {choice.plugin.name} as its body: take mlp or cnn")
    return module
