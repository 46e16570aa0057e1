"""What cases share: the data, and a model with what it says of the clean inputs."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from trustml.access import BLOCK_ROWS, frozen, in_blocks
from trustml.benchmarks.plan import Plan
from trustml.contracts import Dataset, Split
from trustml.errors import MethodFailed, NotApplicable, TrustError
from trustml.files import write_whole
from trustml.recipes import Recipe, choose
from trustml.splits import data_hash
from trustml.store import trained


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A model on the samples under examination; `right` (N,) are those that it reads rightly."""

    recipe: Recipe
    module: nn.Module
    weights_hash: str
    split: Split
    data_hash: str
    right: Tensor
    notes: tuple[str, ...]


def load_data(text: str, folder: str | None) -> Dataset:
    """Return the dataset of `name:key=value,…`; its files are looked for in the folder first.

    Raises:
        BadInput: files that are missing or not what they should be.
        MethodFailed: the loader raised something unforeseen.
    """
    choice = choose("data", text)
    try:
        dataset: Dataset = choice.plugin.function(folder=folder, **choice.options)
    except TrustError:
        raise
    except Exception as error:  # a stranger's loader may raise anything
        raise MethodFailed(f"data {choice.plugin.name}: {type(error).__name__}: {error}") from error
    return dataset


def examined(plan: Plan, test: Split) -> Split:
    """Return the test samples that the plan asks for."""
    rows = torch.arange(min(len(test), plan.limit or len(test)))
    index, count = plan.shard
    rows = rows[index::count]
    return test.at(rows.flip(0) if plan.order == "reversed" else rows)


def settle(
    plan: Plan, recipe: Recipe, dataset: Dataset, device: torch.device, keep: Path
) -> Setting:
    """Return the trained model on the plan's samples; its weights are kept in the folder `keep`.

    Raises:
        TrustError: the model cannot be built, trained or loaded, or its answers are not logits.
    """
    if recipe.safeguards:
        raise NotApplicable(
            "this version examines models without safeguards; leave out what follows +"
        )
    result = trained(recipe, dataset, plan.seed, device)
    own = keep / f"{result.weights_hash[:16]}.safetensors"
    if not own.exists():
        keep_weights(result.module, own)
    split = examined(plan, dataset.test)
    logits = clean_logits(result.module, split, device)
    notes = list(result.notes)
    if not _keeps_bits(result.module, split.x[:BLOCK_ROWS].to(device)):
        notes.append("this device's answers depend on a sample's place in the batch (last bits)")
    right = (logits.argmax(1) == split.y.to(device)).cpu()
    return Setting(
        recipe, result.module, result.weights_hash, split, data_hash(split), right, tuple(notes)
    )


def clean_logits(module: nn.Module, split: Split, device: torch.device) -> Tensor:
    """Return the model's logits (B, K) on a split, checked, on the device.

    Raises:
        MethodFailed: they are not finite logits for the split's classes.
    """
    parts = split.batches(8 * BLOCK_ROWS)
    with frozen(module), torch.no_grad():
        logits = torch.cat([in_blocks(module, part.x.to(device)) for part in parts])
    check_logits(logits, split.classes, "a clean input")
    return logits


def check_logits(logits: Tensor, classes: int, what: str) -> None:
    """Check that answers are finite logits (B, K).

    Raises:
        MethodFailed: they are not.
    """
    if logits.shape[1] != classes:
        raise MethodFailed(f"the model answers {logits.shape[1]} classes; the data have {classes}")
    if not logits.isfinite().all():
        raise MethodFailed(f"the model answered NaN or infinity to {what}")


def _keeps_bits(module: nn.Module, x: Tensor) -> bool:
    """Return whether logits and input gradients are the same bits in another place of the block."""
    with frozen(module):
        answers = [_answers(module, order) for order in (x, x.flip(0))]
    return all(torch.equal(a, b.flip(0)) for a, b in zip(*answers, strict=True))


def _answers(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = in_blocks(module, x)
    if not logits.requires_grad:
        return logits, logits
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), x, allow_unused=True)
    return logits.detach(), logits.detach() if gradient is None else gradient


def keep_weights(module: nn.Module, path: Path) -> None:
    """Write the module's weights as safetensors, whole."""
    state = module.state_dict().items()
    write_whole(path, save({name: tensor.cpu().contiguous().clone() for name, tensor in state}))
