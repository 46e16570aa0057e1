"""Losses that attackers climb, against their formulas on hand-made logits."""

import pytest
import torch

from trustml.attacks._losses import LOSSES, cross_entropy, dlr, dlr_towards, jitter, margin

LOGITS = torch.tensor([[4.0, 1.0, 3.0, 0.0], [-5.0, -2.0, -3.0, -9.0]])
Y = torch.tensor([0, 1])


def test_margin_is_the_best_other_minus_the_own() -> None:
    """3 − 4 and −3 − (−2); all-negative logits too, where a mask of zeros would err."""
    assert margin(LOGITS, Y).tolist() == [-1.0, -1.0]
    assert margin(LOGITS, torch.tensor([2, 0])).tolist() == [1.0, 3.0]
    assert margin(LOGITS, Y, targeted=True).tolist() == [1.0, 1.0]


def test_cross_entropy_is_minus_log_softmax() -> None:
    """Per sample, so that no sample's gradient depends on how many share its batch."""
    truth = -LOGITS.log_softmax(1)[torch.arange(2), Y]
    assert torch.allclose(cross_entropy(LOGITS, Y), truth)
    assert torch.allclose(cross_entropy(LOGITS, Y, targeted=True), -truth)


def test_dlr_is_equation_6() -> None:
    """−(z_y − max other) / (z₁ − z₃): −1/(4 − 1) and −1/(−2 + 5)."""
    assert dlr(LOGITS, Y).tolist() == pytest.approx([-1 / 3, -1 / 3])


def test_targeted_dlr_is_equation_7() -> None:
    """−(z_y − z_t) / (z₁ − (z₃ + z₄)/2), with t = 2: −1 / (4 − 0.5) and −1 / (−2 + 7)."""
    target = torch.tensor([2, 2])
    assert dlr_towards(LOGITS, Y, target).tolist() == pytest.approx([-1 / 3.5, -1 / 5])


def test_jitter_is_the_square_distance_of_a_scaled_softmax() -> None:
    """[1, 1, −2] of mean 0 and largest 2 becomes softmax [5, 5, −10]; scale and shift say nothing.

    Each of the two likely classes has 1/2 but for e⁻¹⁵: (1/2)² + (1/2)² from either, 3/2 from none.
    """
    logits, y = torch.tensor([[1.0, 1.0, -2.0]] * 3), torch.tensor([0, 1, 2])
    assert jitter(logits, y).tolist() == pytest.approx([0.5, 0.5, 1.5], abs=1e-5)
    assert torch.equal(jitter(logits, y, True), -jitter(logits, y))
    assert torch.allclose(jitter(1000 * logits - 7, y), jitter(logits, y), atol=1e-5)
    assert bool(jitter(0 * logits, y).isfinite().all())


def test_dlr_of_two_classes_is_the_margin() -> None:
    """There is no third logit to scale by."""
    assert torch.equal(dlr(LOGITS[:, :2], Y), margin(LOGITS[:, :2], Y))


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("targeted", [False, True])
def test_every_loss_rises_towards_the_attackers_goal(name: str, targeted: bool) -> None:
    """Lowering the true logit helps; with a target, raising the wanted one does."""
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](logits, Y, targeted).sum(), logits)
    own = gradient[torch.arange(2), Y]
    assert bool((own > 0).all() if targeted else (own < 0).all())


def test_of_three_classes_dlr_has_its_denominator_but_not_towards_one() -> None:
    """Equation 6 needs three logits: −(3 − 1) / (3 − 0); equation 7 four: the plain margin."""
    logits, y = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0])
    assert dlr(logits, y).tolist() == pytest.approx([-2 / 3])
    assert dlr(logits, y, True).tolist() == pytest.approx([2.0])
