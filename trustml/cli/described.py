"""What `trustml target` prints of a deployed model: opened, and asked about some data if named."""

from typing import Any

import torch

from trustml import metrics, registry
from trustml.benchmarks.setting import blaming, check_logits, load_data
from trustml.contracts import Access, Dataset, Target
from trustml.deployment import check_names, opened
from trustml.errors import BadInput
from trustml.recipes import brief, read_recipe

# Test samples that it is asked about, so that a wrong range or class order shows.
_ASKED = 200
_KINDS = ("attack", "stealer", "attribution")


def describe(
    text: str, data: str | None, data_dir: str | None, plugins: tuple[str, ...]
) -> dict[str, Any]:
    """Return the facts of a deployed model by name, in the order in which they are printed.

    Raises:
        TrustError: it cannot be opened, or does not answer as a classifier for the data.
    """
    for path in plugins:
        registry.load_file(path)
    recipe = read_recipe(text)
    if not recipe.is_deployed or recipe.safeguards:
        raise BadInput(f"{text} is no deployed model: trustml list target says what is")
    dataset = load_data(data, data_dir) if data else None
    domain = dataset.test.domain if dataset else None
    found = opened(recipe.model.plugin, recipe.own, domain)
    if dataset:
        check_names(found.module, dataset.class_names)
    own = found.domain
    return {
        "model": found.describes,
        "kind": recipe.model.plugin.name,
        "inputs": f"{own.shape} in [{own.low:g}, {own.high:g}]"
        + ("" if domain else ", unless the data say otherwise"),
        "answers": found.says.name.lower(),
        "access": _shown(found.access),
        "classes": list(found.class_names),
        "same answers twice": "yes" if found.deterministic else "no: it is randomised",
        "sha256": found.digest,
        **({"accuracy": _accuracy(found, dataset)} if dataset else {}),
        **{f"{kind}s that would do": _able(kind, found.access) for kind in _KINDS},
        "notes": list(found.notes[1:]),
        "as a model": brief(recipe),
    }


def _shown(access: Access) -> str:
    return "gradients and logits" if access == Access.GRADIENTS else access.name.lower()


def _able(kind: str, shown: Access) -> list[str]:
    return [p.name for p in registry.all_of(kind) if p.facts["needs"] <= shown]


def _accuracy(found: Target, dataset: Dataset) -> str:
    """Return how many of the first test samples it reads rightly."""
    test = dataset.test.at(slice(0, _ASKED))
    with torch.no_grad(), blaming(f"model {found.describes}"):
        logits = found.module(test.x)
    check_logits(logits, test.classes, "a clean input")
    score = metrics.accuracy(logits, test.y)
    return (
        f"{100 * score.value:.1f} % of the first {len(test)} test samples "
        f"(95 % interval {100 * score.low:.1f} to {100 * score.high:.1f})"
    )
