"""ConfidNet: the classifier is the body's own, the confidence tells errors from right answers."""

import pytest
import torch

from trustml.contracts import Domain, Outputs, OwnFit, Split, Training
from trustml.data.moons import moons
from trustml.detectors.confidnet import confidnet as detector
from trustml.errors import BadOption, NotApplicable
from trustml.models.confidnet import confidnet
from trustml.models.mlp import mlp
from trustml.separation import failure_scores
from trustml.training import fit

TRAINING = Training(epochs=5, batch_size=64, learning_rate=1e-2)


@pytest.fixture(scope="module")
def noisy():
    """Moons so noisy that a tenth of the answers is wrong, most of them near the border."""
    return moons(folder=None, samples=3000, noise=0.35, validation=0.3)


@pytest.fixture(scope="module")
def learnt(noisy):
    torch.manual_seed(0)
    module = confidnet(noisy.train.domain, body="mlp:hidden=[32]", hidden=(32,), steps=300)
    curve = fit(module, noisy.train, noisy.validation, TRAINING, 0)
    return module, curve


def test_the_classifier_is_what_the_body_alone_would_be(noisy, learnt) -> None:
    module, curve = learnt
    torch.manual_seed(0)
    alone = mlp(noisy.train.domain, hidden=(32,))
    assert isinstance(module, OwnFit)
    assert fit(alone, noisy.train, noisy.validation, TRAINING, 0) == curve
    with torch.no_grad():
        assert torch.equal(module(noisy.test.x), alone(noisy.test.x))
        assert torch.equal(module.features(noisy.test.x), alone.features(noisy.test.x))


def test_confidence_is_high_for_right_answers(noisy, learnt) -> None:
    module, _ = learnt
    x, y = noisy.test.x, noisy.test.y
    with torch.no_grad():
        wrong = module(x).argmax(1) != y
        confidence = module.confidence(x)
    assert confidence.shape == y.shape
    assert 0 <= confidence.min() <= confidence.max() <= 1
    score = failure_scores(-confidence, wrong).scores["auroc"]
    assert score.low > 0.7


def test_weights_carry_the_confidence_into_another_build(noisy, learnt) -> None:
    module, _ = learnt
    other = confidnet(noisy.train.domain, body="mlp:hidden=[32]", hidden=(32,), steps=300)
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        assert torch.equal(other.confidence(noisy.test.x), module.confidence(noisy.test.x))


def outputs(module: torch.nn.Module, split: Split) -> Outputs:
    with torch.no_grad():
        return Outputs(module(split.x), module.features(split.x), split.x, split.y)


def test_the_detector_asks_the_model_or_learns_a_head_of_its_own(noisy, learnt) -> None:
    module, _ = learnt
    train, held, test = (outputs(module, s) for s in (noisy.train, noisy.validation, noisy.test))
    with torch.no_grad():
        said = module.confidence_logit(noisy.test.x).double()
    assert torch.equal(detector(module, train, held)(test), -said)
    wrong = test.logits.argmax(1) != test.y
    for options in ({}, {"fine_tune": 30}):
        scorer = detector(module.body, train, held, hidden=(32,), steps=300, **options)
        assert failure_scores(scorer(test), wrong).scores["auroc"].low > 0.7
        assert torch.allclose(scorer(test)[:1], scorer(outputs(module, noisy.test.at(slice(1)))))


def test_bad_options_are_refused(noisy) -> None:
    for options in ({"steps": 0}, {"fine_tune": -1}, {"confidence_rate": 0.0}):
        with pytest.raises(BadOption, match="confidnet: steps="):
            confidnet(noisy.train.domain, body="mlp", **options)
    with pytest.raises(BadOption, match="set epochs on confidnet itself"):
        confidnet(noisy.train.domain, body="mlp:epochs=3")
    with pytest.raises(NotApplicable, match="confidnet cannot use resnet18"):
        confidnet(Domain((3, 32, 32), 10), body="resnet18")
    held = outputs(mlp(noisy.train.domain), noisy.validation)
    with pytest.raises(BadOption, match="fine_tune=-1"):
        detector(mlp(noisy.train.domain), held, held, fine_tune=-1)
