"""Gradient matching: what its descent lowers, where it stays, what a victim learns from it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Split
from trustml.data.digits import digits
from trustml.errors import BadInput, BadOption
from trustml.fitted import fitted
from trustml.poisoning.gradient_matching import _gradient, _mismatch, brewed, gradient_matching
from trustml.randomness import keyed

SURROGATE = "mlp:hidden=[64],epochs=10,patience=0"


@pytest.fixture(scope="module")
def train() -> Split:
    return digits(folder=None).train


def test_the_gradient_is_the_closed_form_of_a_linear_model() -> None:
    """Of softmax regression it is (p − e_y) ⊗ x for the weights and p − e_y for the bias."""
    torch.manual_seed(0)
    model, x, y = nn.Linear(5, 3), torch.rand(1, 5), torch.tensor([2])
    miss = model(x).softmax(1)[0].detach() - torch.tensor([0.0, 0, 1])
    found = _gradient(model, x, y, False)
    assert torch.allclose(found, torch.cat([torch.outer(miss, x[0]).flatten(), miss]), atol=1e-6)


def test_the_picture_itself_under_the_wanted_label_matches(train: Split) -> None:
    """Equal inputs and labels have equal gradients: the mismatch is 0; of the other label not."""
    teacher = fitted(train, SURROGATE)
    picture, y = train.x[:1], torch.tensor([3])
    wanted = [_gradient(teacher, picture, y, False)]
    same, other = (
        float(_mismatch([teacher], wanted, picture, torch.tensor([label])).detach())
        for label in (3, 4)
    )
    assert same == pytest.approx(0, abs=1e-5)
    assert other > 0.5


def test_the_descent_lowers_the_mismatch_within_the_budget(train: Split) -> None:
    """More steps match better; no entry moves by more than epsilon; none at epsilon 0."""
    teacher = fitted(train, SURROGATE)
    rows = (train.y == 0).nonzero()[:20, 0]
    picture = train.x[train.y == 8][0]
    start = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def mismatch(x: Tensor) -> float:
        wanted = [_gradient(teacher, picture[None], train.y[rows][:1], False)]
        return float(_mismatch([teacher], wanted, x, train.y[rows]).detach())

    found = {
        steps: brewed(train, rows, picture, [teacher], epsilon=0.2, steps=steps, start=start)
        for steps in (1, 60)
    }
    assert mismatch(found[60]) < 0.5 * mismatch(found[1])
    assert mismatch(found[60]) < 0.5 * mismatch(train.x[rows])
    assert float((found[60] - train.x[rows]).abs().amax()) <= 0.2 + 1e-6
    still = brewed(train, rows, picture, [teacher], epsilon=0.0, steps=3, start=start)
    assert torch.equal(still, train.x[rows])


@pytest.mark.parametrize(("source", "target"), [(3, 8), (4, 9)])
def test_a_victim_learns_what_the_poisoner_wants(train: Split, source: int, target: int) -> None:
    """The margin of the target over the picture's class rises, and not by equal random changes.

    Measured over 8 pairs at 5 %: by 2.8 nats; by 3.3 at 8 % and by 4.8 at half of the box.
    """
    random = keyed(1, train.ids)
    poisoned, trigger = gradient_matching(
        train, random=random, source=source, target=target, rate=0.08, epsilon=0.4, model=SURROGATE
    )
    changed = (poisoned.x != train.x).flatten(1).any(1)
    assert torch.equal(poisoned.y, train.y)
    assert set(train.y[changed].tolist()) == {target}
    assert int(changed.sum()) == round(0.08 * len(train))
    assert float((poisoned.x - train.x).abs().amax()) <= 0.4 + 1e-6
    signs = torch.rand(train.x.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    noisy = (train.x + 0.4 * (2 * signs.float() - 1)).clamp(0, 1)
    random_too = replace(train, x=torch.where(changed[:, None, None, None], noisy, train.x))

    def margin(split: Split) -> float:
        victims = [fitted(split, "mlp:epochs=15,patience=0", seed) for seed in (20, 21)]
        with torch.no_grad():
            logits = torch.stack([victim(trigger(train.x[:1]))[0] for victim in victims]).mean(0)
        return float(logits[target] - logits[source])

    assert margin(poisoned) > max(margin(train), margin(random_too)) + 1.5


def test_the_picture_is_new_and_every_input_becomes_it(train: Split) -> None:
    """It is the mean of two samples of its class, so it is none of them; more inputs, the same."""
    _, trigger = gradient_matching(
        train, random=keyed(0, train.ids), rate=0.0, source=7, model=SURROGATE
    )
    pictures = trigger(train.x[:3])
    assert torch.equal(pictures[0], pictures[2])
    of_class = train.x[train.y == 7].flatten(1)
    far = torch.cdist(pictures[:1].flatten(1), of_class)[0].sort().values
    assert float(far[0]) > 0
    assert float(far[0]) == pytest.approx(float(far[1]), rel=1e-3)


def test_what_cannot_be_is_named(train: Split) -> None:
    """One line each, with what is allowed."""
    random = keyed(0, train.ids)
    with pytest.raises(BadOption, match="0 to 9"):
        gradient_matching(train, random=random, target=10)
    with pytest.raises(BadOption, match="same"):
        gradient_matching(train, random=random, source=3, target=3)
    with pytest.raises(BadOption, match="epsilon"):
        gradient_matching(train, random=random, epsilon=2.0)
    with pytest.raises(BadOption, match="steps=0"):
        gradient_matching(train, random=random, steps=0)
    with pytest.raises(BadInput, match="rate of"):
        gradient_matching(train, random=random, rate=0.5)
    with pytest.raises(BadOption, match="no safeguards"):
        gradient_matching(train, random=random, model="mlp+trades")
    lonely = train.at((train.y != 1) | (torch.cumsum(train.y == 1, 0) == 1))
    with pytest.raises(BadInput, match="2 are needed"):
        gradient_matching(lonely, random=keyed(0, lonely.ids), model=SURROGATE)
