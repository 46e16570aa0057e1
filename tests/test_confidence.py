"""Learning the true-class probability: its facts, planted functions, what is left alone."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trustml.confidence import (
    ConfidenceHead,
    fine_tuned,
    fit_head,
    true_class_probability,
)
from trustml.errors import BadOption, MethodFailed


class Encoder(nn.Module):
    """Two numbers → their features, with what must stay in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x)


def planted(count: int = 600) -> tuple[Tensor, Tensor]:
    """Features, and a target that is 0.95 on one side of a line and 0.3 on the other."""
    features = torch.randn(count, 5, generator=torch.Generator().manual_seed(0)) * 7 + 3
    return features, torch.where(features[:, 0] > features[:, 1], 0.95, 0.3)


@given(st.integers(0, 10_000))
def test_above_a_half_the_answer_is_right_and_below_one_in_k_it_is_wrong(seed: int) -> None:
    """Corbière et al. 2019, section 2.2."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(50, 4, generator=generator)
    y = torch.randint(4, (50,), generator=generator)
    p, right = true_class_probability(logits, y), logits.argmax(1) == y
    assert bool(right[p > 0.5].all())
    assert not bool(right[p < 0.25].any())


def test_it_learns_a_planted_confidence() -> None:
    """The error of a constant is the target's variance, (0.65 / 2)²; learnt, a part of it."""
    features, target = planted()
    head = ConfidenceHead(5, (32,))
    fit_head(head, features, target, steps=600)
    fresh, wanted = planted(900)
    with torch.no_grad():
        error = (head(fresh[600:]).sigmoid() - wanted[600:]).square().mean()
    assert error < 0.3 * 0.325**2


def test_it_begins_at_the_mean_and_never_ends_worse() -> None:
    """Targets that have nothing to do with the features: the mean is the best that there is."""
    features, _ = planted()
    target = 0.9 + 0.1 * torch.rand(600, generator=torch.Generator().manual_seed(1))
    head = ConfidenceHead(5, (32, 32))
    fit_head(head, features, target, steps=200, learning_rate=1e-2)
    held = slice(None, None, 5)
    with torch.no_grad():
        said = head(features[held]).sigmoid()
    assert (said - target[held]).square().mean() < 1.1 * target[held].var()


def test_equal_seeds_learn_alike_and_chance_outside_is_left_alone() -> None:
    features, target = planted()
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(5)
        head = ConfidenceHead(5, (8,))
        before = torch.get_rng_state()
        fit_head(head, features, target, steps=20, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        heads.append(torch.cat([p.detach().flatten() for p in head.parameters()]))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_fine_tuning_changes_a_copy_in_evaluation_mode() -> None:
    encoder = Encoder().eval()
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    target = (x[:, 0] > 0).float() * 0.8 + 0.1
    with torch.no_grad():
        features = encoder.features(x)
    head = ConfidenceHead(8, (16,))
    fit_head(head, features, target, steps=50)
    before = copy.deepcopy(encoder.state_dict())
    with torch.no_grad():
        error = (head(features).sigmoid() - target).square().mean()
    reader = fine_tuned(encoder, head, x, target, steps=200, learning_rate=0.1)
    assert all(torch.equal(before[name], now) for name, now in encoder.state_dict().items())
    own = reader.encoder.state_dict()
    assert not torch.equal(own["layers.0.weight"], before["layers.0.weight"])
    assert torch.equal(own["layers.1.running_mean"], before["layers.1.running_mean"])
    assert not reader.training
    with torch.no_grad():
        assert (reader(x).sigmoid() - target).square().mean() < error


def test_bad_options_are_refused() -> None:
    features, target = planted()
    with pytest.raises(BadOption, match="every width"):
        ConfidenceHead(5, (8, 0))
    head = ConfidenceHead(5, (8,))
    for steps, rate in ((0, 1e-3), (5, 0.0), (5, float("nan"))):
        with pytest.raises(BadOption, match="1 or more"):
            fit_head(head, features, target, steps=steps, learning_rate=rate)
    with pytest.raises(BadOption, match="too few"):
        fit_head(head, features[:9], target[:9], steps=5)
    with pytest.raises(MethodFailed, match="not a number"):
        fit_head(head, features * float("nan"), target, steps=5)
