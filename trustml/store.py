"""Fitted models: trained once for a recipe, data and seed, kept on disk, or read from a file."""

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from trustml.contracts import Dataset, Domain, Epoch, Learns
from trustml.deployment import opened
from trustml.errors import BadInput, DiskFull, MethodFailed, TrustError, UsageError
from trustml.files import write_whole
from trustml.guarding import deployed, guarded, hardened, learnt, sanitised
from trustml.recipes import Recipe
from trustml.splits import data_hash
from trustml.training import fit, seeded
from trustml.weights import load_weights, plain, weights_hash


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A fitted module in eval mode, and where it comes from.

    Args:
        weights_hash: SHA-256 of the weights.
        curve: the training curve, empty for weights from a file.
        seconds: what the training took when it was done.
        from_cache: whether it was done before.
        notes: what a reader should know (a cache file that was no good, weights from a file).
    """

    module: nn.Module
    weights_hash: str
    curve: tuple[Epoch, ...]
    seconds: float
    from_cache: bool
    notes: tuple[str, ...] = ()


def trained(
    recipe: Recipe,
    dataset: Dataset,
    seed: int,
    device: torch.device | str,
    cache_folder: str | Path | None = None,
    fresh: bool = False,
) -> Trained:
    """Return the recipe's model with its safeguards, from its file, the cache, or by training it.

    Args:
        cache_folder: where fitted models are kept; see `default_cache_folder` for None.
        fresh: train even if the cache has the model.

    Raises:
        BadInput: a weights file that is missing, damaged or of another model.
        NotApplicable: the model cannot be built for these data.
        MethodFailed: the builder or the training failed.
    """
    if recipe.at("serving"):
        return _served(recipe, dataset, seed, device, cache_folder, fresh)
    scaffold = _untrained(recipe, dataset.train.domain, seed)
    if recipe.is_deployed:
        scaffold.to(device).eval()
        notes = getattr(scaffold, "notes", ())
        return Trained(scaffold, weights_hash(scaffold), (), 0.0, False, notes)
    if recipe.weights is not None:
        load_weights(scaffold, recipe.weights)
        scaffold.to(device).eval()
        note = f"weights from {recipe.weights}"
        return Trained(scaffold, weights_hash(scaffold), (), 0.0, False, (note,))
    file = _cache_file(recipe, dataset, seed, Path(cache_folder or default_cache_folder()))
    known, notes = (None, ()) if fresh else _from_cache(deployed(scaffold), file)
    scaffold.to(device).eval()
    if known:
        curve = tuple(Epoch(**point) for point in known["curve"])
        return Trained(deployed(scaffold), known["weights"], curve, known["seconds"], True)
    if notes:  # a half-read file may have left its traces
        scaffold = _untrained(recipe, dataset.train.domain, seed).to(device)
    began = time.monotonic()
    splits = sanitised(recipe, dataset, device)
    curve = tuple(fit(scaffold, *splits, recipe.training, seed))
    seconds = time.monotonic() - began
    module = deployed(scaffold)
    result = Trained(module, weights_hash(module), curve, seconds, False, notes)
    return _kept(result, file, recipe, dataset, seed)


def build(recipe: Recipe, domain: Domain, seed: int) -> nn.Module:
    """Return the untrained module for the domain, guards around it; equal seeds, equal weights.

    Raises:
        MethodFailed: a builder raised something unforeseen, or returned no module.
        TrustError: what a builder says of its options or the domain.
    """
    module = deployed(_untrained(recipe, domain, seed))
    for choice in recipe.at("serving"):
        module = guarded(choice, module, domain, seed)
    return module


def _untrained(recipe: Recipe, domain: Domain, seed: int) -> nn.Module:
    """Return the module that is to be fitted, with all that is there only while it is."""
    with seeded(seed):
        return hardened(recipe, domain, lambda: _bare(recipe, domain))


def _bare(recipe: Recipe, domain: Domain) -> nn.Module:
    if recipe.is_deployed:
        return opened(recipe.model.plugin, recipe.own, domain).module
    name = recipe.model.plugin.name
    try:
        module = recipe.model.plugin.function(domain, **recipe.own)
    except TrustError:
        raise
    except Exception as error:  # a stranger's builder may raise anything
        raise MethodFailed(f"model {name}: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise MethodFailed(f"model {name} returned {type(module).__name__}, not a torch nn.Module")
    return module


def _served(
    recipe: Recipe,
    dataset: Dataset,
    seed: int,
    device: torch.device | str,
    cache_folder: str | Path | None,
    fresh: bool,
) -> Trained:
    """Return the model with its last guard around it, which learns once if it must."""
    *others, last = recipe.safeguards
    within = replace(recipe, safeguards=tuple(others))
    inner = trained(within, dataset, seed, device, cache_folder, fresh)
    module = guarded(last, inner.module, dataset.train.domain, seed).to(device).eval()
    if not isinstance(module, Learns):
        return replace(inner, module=module, weights_hash=weights_hash(module))
    folder = Path(cache_folder or default_cache_folder())
    file = _cache_file(recipe, dataset, seed, folder, inner.weights_hash)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    known, notes = (None, ()) if fresh else _from_cache(module, file)
    notes = (*inner.notes, *notes)
    if known:
        seconds = known["seconds"]
        return Trained(module, known["weights"], inner.curve, seconds, inner.from_cache, notes)
    module.load_state_dict(before)
    began = time.monotonic()
    learnt(last, module, inner.module, sanitised(recipe, dataset, device), seed)
    seconds = inner.seconds + time.monotonic() - began
    result = Trained(module, weights_hash(module), inner.curve, seconds, False, notes)
    return _kept(result, file, recipe, dataset, seed)


def default_cache_folder() -> Path:
    """Return where fitted models are kept: `TRUSTML_CACHE`, or the user's cache folder."""
    import platformdirs

    root = os.environ.get("TRUSTML_CACHE") or platformdirs.user_cache_dir("trustml")
    return Path(root).expanduser() / "models"


def _cache_file(
    recipe: Recipe, dataset: Dataset, seed: int, folder: Path, *guarded_weights: str
) -> Path:
    """Return the cached weights' path; all that decides the weights is in its name."""
    hashes = [data_hash(dataset.train), data_hash(dataset.validation)]
    # The domain too: equal bytes may be images or vectors.
    facts = [recipe.text, str(dataset.train.domain), *hashes, seed, _version(), *guarded_weights]
    # One that was fitted without is not what a training that repeats bit for bit gives.
    facts += ["deterministic"] if torch.are_deterministic_algorithms_enabled() else []
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    name = recipe.name.replace("/", "-")
    return folder / f"{name}-{key}" / "model.safetensors"


def _version() -> str:
    try:
        return version("trustml")
    except PackageNotFoundError:
        return "not installed"


def _from_cache(module: nn.Module, file: Path) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Load the module from the cache; return its facts, or None and why a kept file was no good."""
    facts_file = file.with_suffix(".json")
    if not file.exists() or not facts_file.exists():
        return None, ()
    try:
        facts: dict[str, Any] = json.loads(facts_file.read_text())
        load_weights(module, file)
        [Epoch(**point) for point in facts["curve"]]
        if facts["weights"] != weights_hash(module) or not facts["seconds"] >= 0:
            raise BadInput("the weights are not those that were written")
    except (BadInput, OSError, ValueError, KeyError, TypeError) as error:
        return None, (f"the cached model {file.parent} was damaged ({error}); trained again",)
    return facts, ()


def _kept(result: Trained, file: Path, recipe: Recipe, dataset: Dataset, seed: int) -> Trained:
    """Write the model into the cache; a disk that takes no file costs a note, not the model."""
    facts = {
        "recipe": recipe.text,
        "data": dataset.name,
        "seed": seed,
        "version": _version(),
        "torch": torch.__version__,
        "weights": result.weights_hash,
        "seconds": result.seconds,
        "curve": [asdict(point) for point in result.curve],
    }
    weights = {name: plain(tensor) for name, tensor in result.module.state_dict().items()}
    try:
        write_whole(file, save(weights))
        write_whole(file.with_suffix(".json"), json.dumps(facts, indent=1).encode())
    except (UsageError, DiskFull) as error:
        note = f"the model could not be kept in the cache: {error}"
        return replace(result, notes=(*result.notes, note))
    return result
