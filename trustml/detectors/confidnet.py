"""ConfidNet: a head that has learnt the probability of the true class."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import frozen
from trustml.confidence import ConfidenceHead, fine_tuned, fit_head, true_class_probability
from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, features_of, logits_of, need_rows
from trustml.detectors._reading import graph_of
from trustml.errors import BadOption, NotApplicable
from trustml.registry import detector
from trustml.training import device_of, seeded

SEED = 0
BLOCK = 1000
LEAST = 10


@detector(
    source="Corbière et al. 2019, arXiv:1910.04851, section 2", reads=("logits", "features", "x")
)
def confidnet(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    hidden: tuple[int, ...] = (100, 100),
    steps: int = 1000,
    learning_rate: float = 1e-3,
    fine_tune: int = 0,
) -> Scorer:
    """Score by minus the learnt probability of the true class, as a logit, (B,).

    A model that offers `confidence_logit(x)`, as confidnet does, is asked for it, and the options
    are of no use. For any other model a head learns it from the validation outputs: on training
    inputs a network is nearly always right, and leaves nothing to learn.

    Args:
        hidden: widths of the head's layers; [400,400,400,400] as published, five times slower.
        steps: of training the head, 128 samples each.
        learning_rate: of the head; a hundredth of it for the fine-tuning.
        fine_tune: steps in which a copy of the model learns along with the head.

    Raises:
        NotApplicable: no logits or features, or fine-tuning of a model that cannot be copied.
        BadInput: too few validation outputs, or outputs that are no numbers.
        BadOption: an option that is out of range.
        MethodFailed: the loss is not a number.
    """
    if callable(getattr(model, "confidence_logit", None)):
        own: Any = model

        def ask(outputs: Outputs) -> Tensor:
            with frozen(own):
                return -_read(own.confidence_logit, outputs.x, own)

        return ask
    if fine_tune < 0:
        raise BadOption(f"confidnet: fine_tune={fine_tune} is not allowed: it must be 0 or more")
    need_rows(validation, "validation", LEAST)
    features, y = features_of(validation).float(), validation.y
    target = true_class_probability(logits_of(validation), y)
    with seeded(SEED):
        head = ConfidenceHead(features.shape[1], hidden).to(features.device)
    fit_head(head, features, target, steps=steps, learning_rate=learning_rate, seed=SEED)
    if not fine_tune:
        return lambda outputs: -_read(head, features_of(outputs).float(), head)
    if not isinstance(model, nn.Module):
        raise NotApplicable("confidnet: fine_tune needs a torch model that can be copied")
    device = device_of(model)
    x, target = validation.x.to(device), target.to(device)
    reader = fine_tuned(
        model, head.to(device), x, target, steps=fine_tune, learning_rate=learning_rate, seed=SEED
    )
    return lambda outputs: -_read(reader, outputs.x, reader)


def _read(ask: Callable[[Tensor], Tensor], inputs: Tensor, module: nn.Module) -> Tensor:
    """Return the answers (B,) where the inputs are, asked in blocks where the module is."""
    device = device_of(module)
    with graph_of(inputs):
        blocks = [ask(block.to(device)) for block in inputs.split(BLOCK)]
    return torch.cat(blocks).double().to(inputs.device)
