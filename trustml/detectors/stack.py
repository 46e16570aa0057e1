"""Two numbers stacked: how sure the model is, and how near its class is."""

import numpy as np
import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._neighbours import References
from trustml.detectors._parts import Scorer, logits_of, need_between, need_rows
from trustml.detectors._probabilities import odds_against
from trustml.detectors.trust_score import class_references, log_trust
from trustml.errors import NotApplicable
from trustml.registry import detector


@detector(
    source="trustml: logistic regression on logit(MCP) and the log of Jiang et al. 2018's score",
    reads=("logits", "features"),
)
def stack(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    samples: int | None = None,
    penalty: float = 1.0,
) -> Scorer:
    """Score by the log odds of an error, (B,), as a logistic regression on validation errors says.

    It reads two numbers, the logit of the highest probability and the log trust score, each in
    units of its spread over the validation outputs.

    Args:
        samples: how many training samples the trust score looks among, or none for all: fewer see
            less, on MNIST 10 000 cost a good part of what it adds to the highest probability.
        penalty: half the squared weights count so much beside the summed loss.

    Raises:
        NotApplicable: no logits, no features, training labels of one class, or a validation split
            without an error or without a right answer.
        BadInput: no training or validation outputs, or outputs that are no numbers.
        BadOption: samples below 1, or a penalty that is not above 0.
    """
    from sklearn.linear_model import LogisticRegression

    need_between("stack", 1e-9, 1e9, penalty=penalty)
    need_rows(validation, "validation")
    known = class_references(model, train, samples)
    wrong = logits_of(validation).argmax(1) != validation.y
    if bool(wrong.all()) or not bool(wrong.any()):
        raise NotApplicable(
            f"{int(wrong.sum())} of {len(wrong)} validation answers are wrong: to learn from "
            f"errors it needs some, and some right answers"
        )
    read = _numbers(validation, known)
    middle, spread = read.mean(0), read.std(0, correction=0)
    scale = torch.where(spread > 0, 1 / spread, 0.0)
    regression = LogisticRegression(C=1 / penalty)
    regression.fit(((read - middle) * scale).cpu().numpy(), wrong.cpu().numpy())
    weight = torch.from_numpy(np.asarray(regression.coef_[0], dtype=np.float64)).to(read)
    offset = float(regression.intercept_[0])

    def score(outputs: Outputs) -> Tensor:
        return ((_numbers(outputs, known) - middle) * scale) @ weight + offset

    return score


def _numbers(outputs: Outputs, known: References) -> Tensor:
    """Return the logit of the highest probability and the log trust score, (B, 2)."""
    against = odds_against(logits_of(outputs)).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.stack([-against.log(), log_trust(outputs, known)], 1)
