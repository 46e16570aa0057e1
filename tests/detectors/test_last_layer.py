"""The last layer, found or solved for, and the scores that read it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.functional import kl_div, log_softmax

from trustml.detectors._head import last_layer
from trustml.detectors.dice import dice
from trustml.detectors.gradnorm import gradnorm
from trustml.detectors.she import she
from trustml.detectors.temperature import temperature
from trustml.detectors.vim import vim
from trustml.errors import BadOption, NotApplicable


class Hidden(nn.Module):
    """The same network, which does not show its head."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def features(self, x):
        return self.inner.features(x)

    def forward(self, x):
        return self.inner(x)


def test_the_model_s_own_head(model, made) -> None:
    head = last_layer(model, made(), made(seed=2))
    assert torch.equal(head.weight, model.head.weight)
    assert torch.equal(head.bias, model.head.bias)


def test_least_squares_finds_a_hidden_head(model, made) -> None:
    """Exact data of a linear map determine it once the features span their space."""
    head = last_layer(Hidden(model), made(), made(seed=2))
    assert torch.allclose(head.weight, model.head.weight, atol=1e-5)
    assert torch.allclose(head.bias, model.head.bias, atol=1e-5)


def test_behind_a_front_end_the_head_is_what_made_its_logits(model, made) -> None:
    """Temperature 4 divides weight and bias by 4; the model's own head would be wrong."""
    front = temperature(model, made(), made(), value=4.0)
    head = last_layer(model, front(made()), front(made(seed=2)))
    assert torch.allclose(head.weight, model.head.weight / 4, atol=1e-5)


def test_a_dead_feature_has_no_weight(model, made) -> None:
    train = made()
    dead = replace(train, features=torch.cat([train.features, torch.full((200, 1), 7.0)], 1))
    head = last_layer(Hidden(model), dead, dead)
    assert float(head.weight[:, -1].abs().max()) == 0
    assert torch.allclose(head(dead.features), dead.logits, atol=1e-4)


def test_a_bent_last_layer_is_refused(model, made) -> None:
    train = made()
    bent = replace(train, logits=train.logits.log_softmax(1))
    for method in (vim, dice):
        with pytest.raises(NotApplicable, match="not linear in the features"):
            method(model, bent, bent)


def test_too_few_outputs_for_least_squares_are_found_out(model, made) -> None:
    """Five rows are fitted exactly by many heads: on validation rows all but the true one miss."""
    with pytest.raises(NotApplicable, match="not linear"):
        last_layer(Hidden(model), made(5), made(seed=2))


@pytest.mark.parametrize("degrees", [1.0, 3.0])
def test_gradnorm_against_autograd(degrees: float, model, made) -> None:
    """The gradient of KL(uniform ‖ softmax(z / T)) by backward passes, one a sample."""
    test = made(8, seed=2)
    weight = model.head.weight.detach().clone().requires_grad_()
    uniform = torch.full((4,), 0.25)
    expected = []
    for row in test.features:
        logits = (weight @ row + model.head.bias) / degrees
        loss = kl_div(log_softmax(logits, 0), uniform, reduction="sum")
        expected.append(torch.autograd.grad(loss, weight)[0].abs().sum())
    score = gradnorm(model, made(), made(), temperature=degrees)(test)
    assert torch.allclose(score.float(), -torch.stack(expected), rtol=1e-5)


def test_vim_against_scikit_learn(model, made) -> None:
    """What PCA about the origin u leaves over, scaled so that it weighs as the greatest logit does.

    PCA centres its data; with every point mirrored at the origin, their mean is the origin.
    """
    train, test = made(400), made(60, seed=2)
    weight, bias = model.head.weight.detach().double(), model.head.bias.detach().double()
    origin = (-torch.linalg.pinv(weight) @ bias).numpy()
    apart = train.features.double().numpy() - origin
    pca = PCA(n_components=5).fit(np.concatenate([apart, -apart]))

    def length(outputs):
        x = outputs.features.double().numpy() - origin
        return np.linalg.norm(x - pca.inverse_transform(pca.transform(x)), axis=1)

    scale = train.logits.amax(1).double().mean().item() / length(train).mean()
    expected = scale * length(test) - test.logits.double().logsumexp(1).numpy()
    score = vim(model, train, train, dimensions=5)(test)
    assert np.allclose(score.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_vim_needs_something_outside_the_principal_space(model, made) -> None:
    train = made()
    for bad in (-1, 12):
        with pytest.raises(BadOption, match="dimensions"):
            vim(model, train, train, dimensions=bad)
    plane = torch.zeros_like(train.features)
    plane[:, :2] = train.features[:, :2]
    with torch.no_grad():
        flat = replace(train, features=plane, logits=plane @ model.head.weight.T)
    with pytest.raises(NotApplicable, match="lower dimensions"):
        vim(Hidden(model), flat, flat, dimensions=6)


def test_she_by_hand(model, made) -> None:
    """The pattern of class 0 is the mean of its two right samples, (2, 1); class 1 has none."""
    train = replace(
        made(4),
        features=torch.tensor([[1.0, 0], [3, 2], [9, 9], [5, 5]]),
        logits=torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]]),
        y=torch.tensor([0, 0, 1, 0]),
    )
    test = replace(
        made(2), features=torch.tensor([[1.0, 4], [1, 4]]), logits=torch.tensor([[1.0, 0], [0, 1]])
    )
    assert she(model, train, train)(test).tolist() == [-6, 0]


def test_dice_by_hand(model, made) -> None:
    """Contributions |weight · mean feature|: only the greatest quarter of the weights stays."""
    train, test = made(400), made(20, seed=2)
    contribution = (model.head.weight * train.features.mean(0)).detach().numpy()
    kept = contribution > np.quantile(contribution, 0.75)
    assert kept.sum() == 12
    weight = model.head.weight.detach() * torch.from_numpy(kept)
    after = dice(model, train, train, sparsity=75.0)(test)
    assert torch.allclose(after.logits, test.features @ weight.T + model.head.bias, atol=1e-5)
    assert torch.equal(after.features, test.features)
    assert after.draws is None, "draws of the whole head are not draws of this one"
