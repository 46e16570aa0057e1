"""Simplified Hopfield energy: likeness to the stored pattern of the answered class."""

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, features_of, logits_of, need_rows
from trustml.registry import detector


@detector(source="Zhang et al. 2023, ICLR, section 3.3", reads=("logits", "features"))
def she(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by minus the inner product, (B,), of the features and the answered class's pattern.

    A pattern is the mean of the training features that are rightly answered so; a class that is
    never rightly answered has the pattern 0.

    Raises:
        NotApplicable: no logits or no features.
        BadInput: no training outputs, or outputs that are no numbers.
    """
    need_rows(train, "training")
    known, logits = features_of(train).double(), logits_of(train)
    right = logits.argmax(1) == train.y
    count = torch.bincount(train.y[right], minlength=logits.shape[1])
    patterns = known.new_zeros(logits.shape[1], known.shape[1])
    patterns = patterns.index_add(0, train.y[right], known[right]) / count[:, None].clamp_min(1)

    def score(outputs: Outputs) -> Tensor:
        answers = logits_of(outputs).argmax(1)
        return -(features_of(outputs).double() * patterns[answers]).sum(1)

    return score
