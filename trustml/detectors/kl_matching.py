"""Divergence from the usual probabilities of a class."""

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, logits_of, need_rows
from trustml.registry import detector


@detector(source="Hendrycks et al. 2022, arXiv:1911.11132, section 3", reads=("logits",))
def kl_matching(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by the least KL(softmax ‖ template), (B,), of the templates of the classes.

    A template is the mean probability of the validation inputs that are answered so; a class that
    is never answered has none.

    Raises:
        NotApplicable: no logits.
        BadInput: no validation outputs, or logits that are no numbers.
    """
    need_rows(validation, "validation")
    known = log_softmax(logits_of(validation), dim=1)
    answers = known.argmax(1)
    groups = [known[answers == answer] for answer in answers.unique()]
    templates = torch.stack([group.logsumexp(0) - math.log(len(group)) for group in groups])

    def score(outputs: Outputs) -> Tensor:
        logs = log_softmax(logits_of(outputs), dim=1)
        own = (logs.exp() * logs).sum(1, keepdim=True)
        return (own - logs.exp() @ templates.T).amin(1).clamp_min(0)

    return score
