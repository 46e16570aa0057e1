"""A model under a safeguard: as it is deployed, and as one who knows the safeguard looks at it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import frozen, in_blocks
from trustml.benchmarks.discipline import MODELS, Bench
from trustml.benchmarks.probes import margin
from trustml.benchmarks.setting import Setting, check_logits, placed, settle
from trustml.contracts import Dataset, Split
from trustml.guarding import accepted, doubt
from trustml.recipes import Choice, Recipe, check_trainable, choose, read_recipe, split_recipe
from trustml.store import build

NONE = "none"  # the row without a safeguard
ASKED = 8  # answers that an attacker averages where they are drawn anew each time
READ = 256  # inputs that a gate is asked about at once


def monitor_of(safeguard: str) -> Choice | None:
    """Return the monitor that a safeguard is, if it is one."""
    if safeguard == NONE or len(split_recipe(safeguard)) > 1:
        return None
    choice = choose("safeguard", safeguard)
    return choice if choice.plugin.facts["stage"] == "monitoring" else None


def guarded_by(safeguard: str, model: str) -> Recipe:
    """Return the recipe of a model under a chain of safeguards."""
    return read_recipe(model if safeguard == NONE else f"{model}+{safeguard}")


def guarded(bench: Bench, seed: int, model: str, safeguard: str) -> Setting:
    """Return the model under the safeguard, trained, on the mail under examination.

    Raises:
        TrustError: it cannot be built or trained.
    """
    if safeguard == NONE:
        return bench.setting
    known: dict[str, Setting] = bench.memory.setdefault("guarded", {})
    if safeguard not in known:
        recipe = guarded_by(safeguard, model)
        known[safeguard] = settled(bench, seed, recipe, bench.dataset, "")
    return known[safeguard]


def settled(bench: Bench, seed: int, recipe: Recipe, dataset: Dataset, room: str) -> Setting:
    """Return a trained model, kept in a room of the run's folder for its models.

    Raises:
        TrustError: it cannot be built or trained.
    """
    if room:  # other data
        check_trainable(recipe)
    keep = bench.folder / MODELS / room if room else bench.folder / MODELS
    return settle(replace(bench.plan, seed=seed), recipe, dataset, bench.device, keep)


def view_of(setting: Setting, bench: Bench, seed: int) -> tuple[nn.Module, list[str]]:
    """Return the model as an attacker who knows its safeguard looks at it, and how that is done.

    What rounds passes its gradient on (BPDA), what is drawn anew is averaged (EOT), and what a gate
    would send to a person is one class more, that is not wanted.
    """
    module, how = setting.module, ["gradients of the guarded model"]
    names = [c.plugin.name for c in setting.recipe.safeguards if "bpda" in c.options]
    if names:
        module = with_bpda(setting, seed, bench, True)
        how = [f"BPDA through {', '.join(names)}"]
    some = bench.dataset.validation.at(slice(0, READ)).to(bench.device)
    with frozen(module), torch.no_grad():
        first, second = in_blocks(module, some.x), in_blocks(module, some.x)
        unsure = doubt(module, some.x)
    if not torch.equal(first, second):
        module, how = _Averaged(module), [*how, f"EOT over {ASKED} answers"]
    if unsure is not None:
        unit = _spread(margin(first, some.y)) / _spread(unsure)
        module, how = _Gated(module, setting.module, unit), [*how, "aims at what the gate passes"]
    return module, how


def with_bpda(setting: Setting, seed: int, bench: Bench, wanted: bool) -> nn.Module:
    """Return the same model, its safeguards passing gradients on or not, or as it is."""
    parts = tuple(
        Choice(c.plugin, {**c.options, "bpda": wanted}) if "bpda" in c.options else c
        for c in setting.recipe.safeguards
    )
    if parts == setting.recipe.safeguards:
        return setting.module
    twin = build(replace(setting.recipe, safeguards=parts), setting.split.domain, seed)
    twin.load_state_dict(setting.module.state_dict())
    return placed(twin, bench.device)


def read(module: Any, split: Split, x: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Return what the deployed model makes of x (N, *S): misread, accepted (N,), and its doubt.

    Raises:
        MethodFailed: its answers are no logits.
    """
    logits, passes, doubts = [], [], []
    with frozen(module), torch.no_grad():
        for part in x.split(READ):
            there = part.to(device)
            logits.append(in_blocks(module, there).cpu())
            passes.append(accepted(module, there).cpu())
            unsure = doubt(module, there)
            doubts += [] if unsure is None else [unsure.double().cpu()]
    answers = torch.cat(logits)
    check_logits(answers, split.classes, "tampered mail")
    found = {
        "misread": (answers.argmax(1) != split.y.cpu()).to(torch.uint8),
        "accepted": torch.cat(passes).to(torch.uint8),
    }
    return found | ({"doubt": torch.cat(doubts)} if doubts else {})


def named(found: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors under names that begin with `name: `."""
    return {f"{name}: {key}": tensor for key, tensor in found.items()}


class _Averaged(nn.Module):
    """The mean probability over some answers, as logits."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probabilities (B, K)."""
        parts = [self.model(x).log_softmax(1) for _ in range(ASKED)]
        return torch.stack(parts).logsumexp(0) - math.log(ASKED)

    def features(self, x: Tensor) -> Tensor:
        """Return the features (B, D)."""
        features: Tensor = self.model.features(x)
        return features


class _Gated(nn.Module):
    """Logits of K classes and of "a person looks at it", which leads where the gate refuses."""

    model: Any

    def __init__(self, model: nn.Module, gate: nn.Module, unit: float) -> None:
        super().__init__()
        self.model, self.gate, self.unit = model, gate, unit

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K + 1)."""
        logits = self.model(x)
        unsure = doubt(self.gate, x)
        assert unsure is not None, "a gate that was there is gone"
        person = logits.amax(1) + self.unit * unsure.to(logits)
        return torch.cat([logits, person[:, None]], 1)

    def features(self, x: Tensor) -> Tensor:
        """Return the features (B, D)."""
        features: Tensor = self.model.features(x)
        return features


def _spread(values: Tensor) -> float:
    finite = values[values.isfinite()].double()
    spread = float(finite.std(unbiased=False)) if len(finite) else 0.0
    return spread if spread > 0 else 1.0
