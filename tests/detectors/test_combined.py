"""Scores put together: the stack against scikit-learn, the fusion term by term."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from trustml.detectors.energy import energy
from trustml.detectors.fusion import fusion
from trustml.detectors.knn import knn
from trustml.detectors.mahalanobis import mahalanobis
from trustml.detectors.mcp import mcp
from trustml.detectors.stack import stack
from trustml.detectors.trust_score import trust_score
from trustml.errors import BadOption, NotApplicable


def test_stack_against_scikit_learn(model, made) -> None:
    """Its two numbers from the two detectors, then scikit-learn's scaler and regression."""
    train, validation, test = made(300), made(400, seed=2), made(50, seed=3)
    doubt, distrust = mcp(model, train, train), trust_score(model, train, train)

    def numbers(outputs):
        both = torch.stack([doubt(outputs), distrust(outputs)], 1).numpy()
        return np.log(1 / both - 1)

    scaler = StandardScaler().fit(numbers(validation))
    wrong = (validation.logits.argmax(1) != validation.y).numpy()
    regression = LogisticRegression().fit(scaler.transform(numbers(validation)), wrong)
    expected = regression.decision_function(scaler.transform(numbers(test)))
    score = stack(model, train, validation)(test)
    assert np.allclose(score.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_stack_finds_errors_better_than_either_number_alone(model, made) -> None:
    """Planted: an answer is wrong where doubt and distrust together are high."""
    train = made(300, wrong=0.0)
    doubt, distrust = mcp(model, train, train), trust_score(model, train, train)

    def planted(seed: int):
        outputs = made(1500, seed=seed, wrong=0.0)
        sum_of_ranks = sum(part(outputs).argsort().argsort() for part in (doubt, distrust))
        noisy = sum_of_ranks + 300 * torch.randn(1500, generator=torch.Generator().manual_seed(7))
        wrong = noisy > noisy.double().quantile(0.9)
        return replace(outputs, y=torch.where(wrong, (outputs.y + 1) % 4, outputs.y)), wrong

    validation, test = planted(2)[0], planted(3)
    scores = [part(test[0]) for part in (doubt, distrust, stack(model, train, validation))]
    first, second, both = (roc_auc_score(test[1].numpy(), score.numpy()) for score in scores)
    assert both > max(first, second) + 0.01


def test_stack_needs_errors_and_right_answers(model, made) -> None:
    train = made()
    none = replace(train, y=train.logits.argmax(1))
    every = replace(train, y=(train.logits.argmax(1) + 1) % 4)
    for validation in (none, every):
        with pytest.raises(NotApplicable, match="of 200 validation answers are wrong"):
            stack(model, train, validation)
    with pytest.raises(BadOption, match="penalty"):
        stack(model, train, train, penalty=0.0)


def test_fusion_term_by_term(model, made) -> None:
    train, validation, test = made(300), made(200, seed=2), made(50, seed=3)
    expected = torch.zeros(50).double()
    for method in (energy, knn, mahalanobis):
        scorer = method(model, train, validation)
        known = scorer(validation).double()
        expected += (scorer(test).double() - known.mean()) / known.std(correction=0)
    assert torch.allclose(fusion(model, train, validation)(test), expected, rtol=1e-5, atol=1e-5)
    # Each part has mean 0 over the validation outputs, so the sum has too.
    assert float(fusion(model, train, validation)(validation).mean()) == pytest.approx(0, abs=1e-6)
