"""What a model says of a split, computed once and kept on disk: twenty detectors cost one pass."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trustml.access import READ_ROWS, frozen, in_blocks
from trustml.benchmarks.setting import Setting, check_logits
from trustml.contracts import Bayesian, Outputs, Split
from trustml.deployment import is_remote
from trustml.errors import DiskFull, UsageError
from trustml.files import write_whole
from trustml.splits import data_hash
from trustml.store import default_cache_folder


def outputs_of(setting: Setting, split: Split, device: torch.device, draws: int = 0) -> Outputs:
    """Return logits, features and, of a Bayesian model, `draws` draws for the split, on the CPU.

    A model without features has none: (B, 0). What is kept in the cache is not computed again.

    Raises:
        MethodFailed: the model answers NaN, or another number of classes.
    """
    draws = draws if isinstance(setting.module, Bayesian) else 0
    name = f"{setting.weights_hash} {setting.recipe.text} {data_hash(split)} {draws}"
    file = _folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.safetensors"
    # What a server says today it may not say tomorrow: its answers are never taken from the cache.
    known = None if is_remote(setting.module) else _read(file, len(split))
    if known is None:
        known = _computed(setting.module, split, device, draws)
        # The cache only saves time; what cannot be kept is computed again.
        with suppress(UsageError, DiskFull):
            write_whole(file, save({key: part.contiguous() for key, part in known.items()}))
    return Outputs(known["logits"], known["features"], split.x, split.y, known.get("draws"))


def asked_again(setting: Setting, split: Split, device: torch.device, draws: int = 0) -> Outputs:
    """Return the outputs for the split, computed now and not kept.

    Raises:
        MethodFailed: the model answers NaN, or another number of classes.
    """
    draws = draws if isinstance(setting.module, Bayesian) else 0
    found = _computed(setting.module, split, device, draws)
    return Outputs(found["logits"], found["features"], split.x, split.y, found.get("draws"))


def _folder() -> Path:
    return default_cache_folder().parent / "outputs"


def _read(file: Path, count: int) -> dict[str, Tensor] | None:
    """Return what the file holds, or None if it is not there, damaged or of other samples."""
    try:
        known = load(file.read_bytes())
    except (OSError, SafetensorError):
        return None
    return known if "features" in known and len(known.get("logits", ())) == count else None


def _computed(module: Any, split: Split, device: torch.device, draws: int) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {"logits": [], "features": [], "draws": []}
    with frozen(module), torch.no_grad():
        for batch in split.batches(READ_ROWS):
            x = batch.x.to(device)
            logits = in_blocks(module, x)
            check_logits(logits, split.classes, "a clean input")
            parts["logits"].append(logits.cpu())
            shown = hasattr(module, "features")
            features = in_blocks(lambda z: module.features(z).flatten(1), x) if shown else x[:, :0]
            parts["features"].append(features.flatten(1).cpu())
            if draws:
                parts["draws"].append(module.sample_logits(x, draws).cpu())
    found = {name: torch.cat(parts[name]) for name in ("logits", "features")}
    return found | ({"draws": torch.cat(parts["draws"], 1)} if draws else {})
