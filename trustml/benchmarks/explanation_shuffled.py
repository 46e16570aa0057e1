"""A second model for the exam of explanations: of the same recipe, taught shuffled labels."""

from dataclasses import replace

import torch

from trustml.access import frozen, in_blocks
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.explained import generator
from trustml.benchmarks.explanation_question import Shuffled
from trustml.benchmarks.setting import blaming, placed
from trustml.contracts import Split
from trustml.errors import NotApplicable, TrustError
from trustml.recipes import check_trainable
from trustml.store import trained

# Weights begin elsewhere than the examined model's: else the two would share what was never learnt.
_OTHER_SEED = 7_919
_ASKED = 2_000


def learnt_shuffled(bench: Bench, seed: int) -> Shuffled:
    """Return the recipe's network, from the cache or trained on the same inputs, labels shuffled.

    Raises:
        NotApplicable: the weights come from a file, so how they were learnt is not known, or the
            training failed.
    """
    recipe, device = bench.setting.recipe, bench.device
    check_trainable(recipe)
    if recipe.weights is not None:
        raise NotApplicable("the weights come from a file: how they were learnt is not known")
    dataset = bench.dataset
    dataset = replace(
        dataset,
        train=_shuffled(dataset.train, seed),
        validation=_shuffled(dataset.validation, seed + 1),
    )
    try:
        with blaming(f"model {recipe.name}"):
            module = placed(trained(recipe, dataset, seed + _OTHER_SEED, device).module, device)
    except TrustError as error:
        raise NotApplicable(f"no model could be taught shuffled labels: {error}") from error
    part = dataset.train.at(slice(0, _ASKED))
    with frozen(module), torch.no_grad():
        answers = in_blocks(module, part.x.to(device)).argmax(1).cpu()
    return Shuffled(module, float((answers == part.y).double().mean()))


def _shuffled(split: Split, seed: int) -> Split:
    """Return the split with its labels dealt out anew: as many of each class as before."""
    return replace(split, y=split.y[torch.randperm(len(split), generator=generator(seed))])
