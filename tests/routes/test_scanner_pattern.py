"""The scanner's pattern against the best one, which a weighed sum gives away."""

from dataclasses import replace

import pytest
import torch

from tests.routes.models import Watchful, Weighing, mail, numbers
from trustml.contracts import Split
from trustml.errors import BadOption, NotApplicable
from trustml.routes._escaping import held
from trustml.routes.scanner_pattern import scanner_pattern

WEIGHTS = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(0))
MOST = 0.1 * float(WEIGHTS.abs().sum())  # what a pattern of 0.1 can add to the sum at most
GRAY = 0.5 * float(WEIGHTS.sum())
RIGHT = (torch.arange(6) >= 3).float()


@pytest.mark.parametrize(("share", "won"), [(0.95, True), (1.05, False)])
def test_it_reaches_the_best_pattern_and_not_more(share: float, won: bool) -> None:
    """Far from the walls eps · sign(w) adds eps · |w|₁; a border 5 % nearer falls, farther not."""
    split = mail()
    model = Weighing(WEIGHTS, GRAY + share * MOST)
    change = scanner_pattern(model, split, random=numbers(split), epsilon=0.1)
    moved = change(split.x, split.y, numbers(split))
    assert float((moved - split.x).abs().max()) <= 0.1 + 1e-6
    assert torch.equal(moved - split.x, (moved - split.x)[:1].expand_as(moved)), "one for all"
    assert bool((model(moved).argmax(1) == 1).all()) == won


@pytest.mark.parametrize("method", ["gradient", "deepfool"])
@pytest.mark.parametrize(("share", "won"), [(0.95, True), (1.05, False)])
def test_it_reaches_the_best_pattern_in_l2(share: float, won: bool, method: str) -> None:
    """The longest way along w: eps · √D · ‖w‖₂ is added to the sum at most."""
    split, most = mail(), 0.05 * 6 * float(WEIGHTS.norm())
    model = Weighing(WEIGHTS, GRAY + share * most)
    change = scanner_pattern(
        model, split, random=numbers(split), epsilon=0.05, norm="l2", method=method
    )
    moved = change(split.x, split.y, numbers(split))
    assert float((moved - split.x)[0].norm()) <= 0.05 * 6 * (1 + 1e-5)
    assert torch.allclose(moved - split.x, (moved - split.x)[:1].expand_as(moved)), "one for all"
    assert bool((model(moved).argmax(1) == 1).all()) == won


@pytest.mark.parametrize(("share", "won"), [(0.95, True), (1.05, False)])
def test_gathered_moves_reach_the_best_pattern_too(share: float, won: bool) -> None:
    """All mail is the same, so one least move, along sign(w), is all that it takes."""
    split = mail()
    model = Weighing(WEIGHTS, GRAY + share * MOST)
    change = scanner_pattern(model, split, random=numbers(split), epsilon=0.1, method="deepfool")
    moved = change(split.x, split.y, numbers(split))
    assert float((moved - split.x).abs().max()) <= 0.1 + 1e-6
    assert bool((model(moved).argmax(1) == 1).all()) == won


def test_it_goes_past_the_gate_too() -> None:
    """What is near the border goes to a person: the sum must pass it by `near`, and can."""
    split = mail()
    model = Watchful(Weighing(WEIGHTS, GRAY + 0.5 * MOST), near=0.4 * MOST)
    change = scanner_pattern(model, split, random=numbers(split), epsilon=0.1)
    assert bool((model(change(split.x, split.y, numbers(split))).argmax(1) == 1).all())


class OfThree(Weighing):
    """Beside class 1, which is near, a class 2 that the left half of the pixels decides on."""

    def __init__(self, share: float) -> None:
        super().__init__(WEIGHTS * RIGHT, float((WEIGHTS * RIGHT).sum()) / 2 + 0.1)
        self.register_buffer("left", WEIGHTS * (1 - RIGHT))
        far = 0.1 * float(self.left.abs().sum())
        self.other = Weighing(self.left, float(self.left.sum()) / 2 + share * far)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 3)."""
        return torch.cat([super().forward(x), self.other(x)[:, 1:]], 1)


def of_three(labels: list[int]) -> Split:
    """Gray mail of these classes."""
    split = mail(len(labels))
    return replace(split, y=torch.tensor(labels), classes=3)


@pytest.mark.parametrize("method", ["gradient", "deepfool"])
@pytest.mark.parametrize(("share", "won"), [(0.95, True), (1.05, False)])
def test_it_reaches_a_class_that_is_wanted(share: float, won: bool, method: str) -> None:
    """Class 1 is nearer; for class 2 the left half adds eps · |w|₁ at most, the right adds nothing.

    Mail that is of class 2 already is no matter: here it is most of the mail.
    """
    split, model = of_three([2] * 30 + [0] * 10), OfThree(share)
    for target, read in ((1, 1), (2, 2 if won else None), (None, 1)):
        change = scanner_pattern(
            model, split, random=numbers(split), epsilon=0.1, method=method, target=target
        )
        moved = change(split.x, split.y, numbers(split))
        assert float((moved - split.x).abs().max()) <= 0.1 + 1e-6
        answers = set(model(moved).argmax(1).tolist())
        assert 2 not in answers if read is None else answers == {read}


def test_the_wanted_class_must_pass_the_gate_too() -> None:
    """What is near the border goes to a person: the sum must pass it by `near`, and can."""
    split = mail()
    model = Watchful(Weighing(WEIGHTS, GRAY + 0.5 * MOST), near=0.4 * MOST)
    change = scanner_pattern(model, split, random=numbers(split), epsilon=0.1, target=1)
    assert bool((model(change(split.x, split.y, numbers(split))).argmax(1) == 1).all())


@pytest.mark.parametrize(
    ("target", "labels", "said"),
    [
        (3, [0, 1], "target=3 is not allowed: classes are numbered 0 to 2"),
        (-1, [0, 1], "target=-1 is not allowed: classes are numbered 0 to 2"),
        (2, [2, 2], "target=2: all mail is of that class already"),
    ],
)
def test_a_class_that_cannot_be_wanted_is_refused(
    target: int, labels: list[int], said: str
) -> None:
    split = of_three(labels)
    with pytest.raises(BadOption, match=said):
        scanner_pattern(OfThree(0.5), split, random=numbers(split), target=target)


@pytest.mark.parametrize("epsilon", [0.0, 1.5, float("nan")])
def test_an_epsilon_that_is_no_share_is_refused(epsilon: float) -> None:
    split = mail()
    with pytest.raises(BadOption, match="epsilon"):
        scanner_pattern(Weighing(WEIGHTS, 0), split, random=numbers(split), epsilon=epsilon)


def test_a_model_that_gives_no_gradient_is_no_model_for_it() -> None:
    """A server's answers are numbers; what asks for answers alone is named."""

    class Served(Weighing):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    split = mail()
    with pytest.raises(NotApplicable, match="gain_drift, strokes"):
        scanner_pattern(Served(WEIGHTS, 0), split, random=numbers(split))


def test_near_mail_draws_a_pattern_more_than_hopeless_mail() -> None:
    """Slopes in the gap: 0.1 / 2 + 1 / 4 where it is 0, 0.1 where it is far below, 0 far above."""
    x = torch.tensor([0.0, -50.0, 50.0]).double().requires_grad_()
    seen = Split(x.detach(), torch.zeros(3, dtype=torch.int64), torch.arange(3), 2, -99.0, 99.0)
    lack = held(lambda z: torch.stack([torch.zeros_like(z), z], 1), x, seen, seen.y, 1.0)
    (slope,) = torch.autograd.grad(3 * lack, x)
    assert slope.tolist() == pytest.approx([-0.3, -0.1, 0.0], abs=1e-9)
