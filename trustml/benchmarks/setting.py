"""What cases share: the data, and a model with what it says of the clean inputs."""

import hashlib
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from trustml.access import READ_ROWS, Blocks, frozen, in_blocks
from trustml.benchmarks.blocks import fitting_blocks, varies
from trustml.benchmarks.plan import Plan
from trustml.contracts import Dataset, Domain, Split
from trustml.deployment import check_names
from trustml.errors import BadInput, BrokenClaim, MethodFailed, TrustError
from trustml.files import write_whole
from trustml.recipes import Recipe, choose
from trustml.splits import check_dataset, data_hash
from trustml.store import Trained, build, trained
from trustml.weights import load_weights, weights_hash


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A model on the samples under examination; `right` (N,) are those that it reads rightly.

    `blocks` are sizes in which it may be fed: its answers have the same bits in all of them.
    """

    recipe: Recipe
    module: nn.Module
    weights_hash: str
    split: Split
    data_hash: str
    right: Tensor
    notes: tuple[str, ...]
    blocks: Blocks | None = None


def load_data(text: str, folder: str | None) -> Dataset:
    """Return the dataset of `name:key=value,…`; its files are looked for in the folder first.

    Raises:
        BadInput: files that are missing or not what they should be, or data that no method can be
            judged on (`check_dataset`).
        MethodFailed: the loader raised something unforeseen.
    """
    choice = choose("data", text)
    with blaming(f"data {choice.plugin.name}"):
        # A stranger's data may be anything: nothing is measured on labels that are no classes.
        return check_dataset(choice.plugin.function(folder=folder, **choice.options))


def examined(plan: Plan, test: Split) -> Split:
    """Return the test samples that the plan asks for.

    Raises:
        BadInput: they are none.
    """
    most = min(len(test), plan.limit or len(test))
    index, count = plan.shard
    if index >= most:
        raise BadInput(f"--shard {index}/{count} of {most} samples is empty; use fewer shards")
    if count == 1 and plan.order != "reversed":
        return test.at(slice(0, most))  # no copy: there may be many
    rows = torch.arange(index, most, count)
    return test.at(rows.flip(0) if plan.order == "reversed" else rows)


def settle(
    plan: Plan, recipe: Recipe, dataset: Dataset, device: torch.device, keep: Path
) -> Setting:
    """Return the trained model on the plan's samples, both as they were if the run began before.

    Args:
        plan: the run's.
        recipe: of the model.
        dataset: to be trained and examined on.
        device: where the model shall live.
        keep: the run's folder for its models.

    Raises:
        TrustError: the model cannot be built, trained or loaded, or its answers are not logits, or
            the data have changed since the run began.
    """
    split = examined(plan, dataset.test)
    with blaming(f"model {recipe.name}"):
        known = _kept(plan, recipe, split, keep)
        if known is None:
            known = trained(recipe, dataset, plan.seed, device)
            _keep(known, recipe, plan.seed, split, keep)
        check_names(known.module, dataset.class_names)
        module = placed(known.module, device)
        logits = clean_logits(module, split, device)
        notes = list(known.notes)
        blocks = fitting_blocks(module, split.x[:256].to(device))
        if varies(module, split.x.to(device)):
            notes.append(
                "this model answers at random: the same question asked again gets another answer"
            )
        elif blocks is None:
            notes.append(
                "this device's answers depend on a sample's place in the batch (last bits)"
            )
    right = (logits.argmax(1) == split.y.to(device)).cpu()
    return Setting(
        recipe, module, known.weights_hash, split, data_hash(split), right, tuple(notes), blocks
    )


@contextmanager
def blaming(plugin: str) -> Iterator[None]:
    """Turn whatever a plugin raises inside the block into one line that names it.

    Raises:
        MethodFailed: it raised something that is not a TrustError.
    """
    try:
        yield
    except TrustError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's plugin may raise anything
        raise MethodFailed(f"{plugin} raised {told(error)}") from error


def told(error: BaseException) -> str:
    """Return a stranger's error as one line: its type, its first line, and where it was raised."""
    first = (str(error).strip().splitlines() or [""])[0]
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({Path(last[0].filename).name}, line {last[0].lineno})" if last else ""
    added = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {first}{place}{added}"


def weights_file(weights: str, keep: Path) -> Path:
    """Return where a run keeps the weights of that hash, in its folder for models."""
    return keep / f"{weights[:16]}.safetensors"


def _keep(known: Trained, recipe: Recipe, seed: int, split: Split, keep: Path) -> None:
    """Write the weights, then which weights and samples the run has: a run is of one piece."""
    keep_weights(known.module, weights_file(known.weights_hash, keep))
    facts = {
        "recipe": recipe.text,
        "weights": known.weights_hash,
        "data_hash": data_hash(split),
        "notes": known.notes,
    }
    write_whole(facts_file(recipe, seed, keep), json.dumps(facts, indent=1).encode())


def _kept(plan: Plan, recipe: Recipe, split: Split, keep: Path) -> Trained | None:
    """Return the model that the run began with, or None if it has not begun with this one.

    Raises:
        BadInput: the samples are others now.
        BrokenClaim: the run's own files are damaged.
    """
    file = facts_file(recipe, plan.seed, keep)
    if not file.exists():
        return None
    try:
        facts = json.loads(file.read_bytes())
        weights, data, notes = facts["weights"], facts["data_hash"], tuple(facts["notes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenClaim(f"{file} is damaged ({error})") from error
    if data != data_hash(split):
        raise BadInput(
            f"{plan.data} no longer holds the samples that this run began with; start a new run"
        )
    module = recorded_module(recipe, split.domain, plan.seed, (weights, keep))
    return Trained(module, weights, (), 0.0, True, notes)


def recorded_module(
    recipe: Recipe, domain: Domain, seed: int, where: tuple[str, Path]
) -> nn.Module:
    """Return the module with the weights of the given hash, from a run's folder for its models.

    Raises:
        BrokenClaim: they are missing, damaged, or others.
    """
    weights, keep = where
    module, path = build(recipe, domain, seed), weights_file(weights, keep)
    try:
        load_weights(module, path)
    except BadInput as error:
        raise BrokenClaim(str(error)) from error
    if weights_hash(module) != weights:
        raise BrokenClaim(f"{path} does not hold the weights that the run was made with")
    return module


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module on the device, in evaluation mode, its convolutions' weights channels last.

    Libraries then compute convolutions a tenth to a fifth faster; answers may differ in last bits.
    """
    module = module.to(device).eval()
    held = (*module.parameters(), *module.buffers())
    flat = all(tensor.dim() < 5 for tensor in held)
    return module.to(memory_format=torch.channels_last) if flat else module


def facts_file(recipe: Recipe, seed: int, keep: Path) -> Path:
    """Return where a run's folder for models says which weights a recipe has in it."""
    name = f"{recipe.text} seed={seed}"
    return keep / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def clean_logits(module: nn.Module, split: Split, device: torch.device) -> Tensor:
    """Return the model's logits (B, K) on a split, checked, on the device.

    Raises:
        MethodFailed: they are not finite logits for the split's classes.
    """
    parts = split.batches(READ_ROWS)
    with frozen(module), torch.no_grad():
        logits = torch.cat([in_blocks(module, part.x.to(device)) for part in parts])
    check_logits(logits, split.classes, "a clean input")
    return logits


def check_logits(logits: Tensor, classes: int, what: str) -> None:
    """Check that answers are finite logits (B, K).

    Raises:
        MethodFailed: they are not.
    """
    if not logits.is_floating_point():
        raise MethodFailed(f"the model answered {logits.dtype} to {what}; logits are floating")
    if logits.shape[1] != classes:
        raise MethodFailed(f"the model answers {logits.shape[1]} classes; the data have {classes}")
    if not logits.isfinite().all():
        raise MethodFailed(f"the model answered NaN or infinity to {what}")


def keep_weights(module: nn.Module, path: Path) -> None:
    """Write the module's weights as safetensors, whole."""
    state = module.state_dict().items()
    write_whole(path, save({name: tensor.cpu().contiguous().clone() for name, tensor in state}))
