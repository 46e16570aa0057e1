"""Safeguards of the training: losses by hand, balls, and votes with their certificate."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from trustml.contracts import Domain, Split, Training
from trustml.defenses._hardening import Climb
from trustml.defenses.ensemble_vote import ensemble_vote
from trustml.defenses.fast_adversarial_training import fast_adversarial_training
from trustml.defenses.label_smoothing import label_smoothing
from trustml.defenses.mixup import mixup
from trustml.defenses.partition_aggregation import (
    certified_poisons,
    partition,
    partition_aggregation,
)
from trustml.defenses.pgd_adversarial_training import pgd_adversarial_training
from trustml.defenses.trades import trades
from trustml.defenses.weight_averaging import weight_averaging
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.guarding import deployed
from trustml.registry import get
from trustml.training import fit

DOMAIN = Domain((6,), 3)


class Linear(nn.Module):
    """A linear classifier: the worst point of a Linf ball is a corner that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 6, generator=torch.Generator().manual_seed(0)))

    def features(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    """Return inputs well inside the box, and labels of two classes."""
    draw = torch.Generator().manual_seed(1)
    return 0.3 + 0.4 * torch.rand(count, 6, generator=draw), torch.arange(count) % 2


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_adversarial_training_trains_on_the_worst_point(norm: Any) -> None:
    """Of a linear model it is x + epsilon times the dual of the margin's direction, in closed form.

    Signed steps end in that corner; on the sphere the last part of the way takes many steps.
    """
    x, y = batch()
    build: Any = pgd_adversarial_training(Linear, Domain((6,), 2), epsilon=0.1, norm=norm, steps=50)
    margin = (build.model.weight[1] - build.model.weight[0]).detach()
    towards = (1 - 2 * y)[:, None] * margin
    way = towards.sign() if norm == "linf" else towards / margin.norm()
    with torch.no_grad():
        worst = float(cross_entropy(build.model(x + 0.1 * way), y))
        found, plain = float(build.training_loss(x, y, 8)), float(cross_entropy(build.model(x), y))
    assert worst - plain > 0.1
    assert found <= worst + 1e-5
    assert found >= worst - (1e-5 if norm == "linf" else 0.05 * (worst - plain))


def test_a_validation_loss_can_climb_too() -> None:
    """Without gradients around it, the walk has its own: the same worst loss comes out."""
    x, y = batch()
    guard: Any = pgd_adversarial_training(Linear, Domain((6,), 2), epsilon=0.1)
    with torch.no_grad():
        held = guard.training_loss(x, y, 8)
    assert torch.allclose(held, guard.training_loss(x, y, 8), atol=1e-4)
    assert not held.requires_grad
    assert guard.model.weight.grad is None


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_walks_stay_in_ball_and_box(norm: Any) -> None:
    """From random starts, also near the walls, and up a loss that pulls outwards."""
    climb = Climb((0.0, 1.0), norm, 0.3, 5, 2 / 3)
    x = torch.rand(200, 6, generator=torch.Generator().manual_seed(3)).round(decimals=1)
    for point in (climb.start(x), climb.top(lambda z: z.sum(), climb.start(x), x)):
        far = (point - x).abs().amax(1) if norm == "linf" else (point - x).norm(dim=1)
        assert float(far.max()) <= 0.3 + 1e-6
        assert float(far.max()) > 0.25, "the ball is used"
        assert float(point.min()) >= 0
        assert float(point.max()) <= 1


def test_a_warm_up_grows_from_little_to_the_whole_ball() -> None:
    """After half of four epochs it is half the ball in half the steps, each as long, at most.

    Epochs are counted by the samples of training steps; a validation loss moves nothing on.
    """
    climb = Climb((0.0, 1.0), "linf", 0.4, 6, 0.5, 4.0)
    half = climb.at(2.0)
    assert (half.epsilon, half.steps, half.step) == (0.2, 3, 1.0)
    first = climb.at(0.0)
    assert (first.epsilon, first.steps, first.step) == (pytest.approx(0.004), 1, 1.25)
    assert climb.at(4.0) is climb
    assert climb.at(9.0) is climb
    x, y = batch()
    guard: Any = pgd_adversarial_training(Linear, Domain((6,), 2), epsilon=0.1, warm_up=2.0)
    whole: Any = pgd_adversarial_training(Linear, Domain((6,), 2), epsilon=0.1)
    worst = float(whole.training_loss(x, y, 8).detach())
    plain = float(cross_entropy(whole.model(x), y).detach())
    found = []
    for _ in range(3):
        with torch.no_grad():
            held = float(guard.training_loss(x, y, 8))
        found.append(float(guard.training_loss(x, y, 8).detach()))
        assert found[-1] == pytest.approx(held, abs=1e-4)
    assert found[0] - plain < 0.05 * (worst - plain)
    assert 0.4 < (found[1] - plain) / (worst - plain) < 0.6
    assert found[2] == pytest.approx(worst, abs=1e-4)


def test_the_mean_of_the_weights_is_deployed() -> None:
    """Each step's weights are weighed by hand; the first mean is the first weights."""
    x, y = batch()
    guard: Any = weight_averaging(Linear, Domain((6,), 2), decay=0.5)
    truth = None
    for step in range(20):
        with torch.no_grad():
            guard.model.weight += 0.1 * (step % 3)
        now = guard.model.weight.detach().clone()
        share = min(0.5, step / (step + 10))
        truth = now if truth is None else share * truth + (1 - share) * now
        guard.train().training_loss(x, y, 8)
    assert truth is not None
    assert torch.allclose(guard.deployed.weight, truth, atol=1e-6)
    assert torch.equal(guard(x), x @ now.T), "steps are those of the model itself"
    guard.eval()
    assert torch.allclose(guard(x), x @ truth.T, atol=1e-6)
    with torch.no_grad():
        held = guard.training_loss(x, y, 8)
    assert torch.allclose(held, cross_entropy(x @ truth.T, y)), "and so is a validation loss"
    assert not torch.equal(guard.model.weight, truth)


def test_averaging_goes_around_another_training() -> None:
    """The loss of each step is that of the scaffold within, and what is left is a bare model."""
    x, y = batch()
    domain = Domain((6,), 2)
    outer: Any = weight_averaging(
        lambda: label_smoothing(Linear, domain, smoothing=0.3), domain, decay=0.9
    )
    smooth: Any = label_smoothing(Linear, domain, smoothing=0.3)
    assert torch.allclose(outer.training_loss(x, y, 8), smooth.training_loss(x, y, 8))
    split = Split(x, y, torch.arange(8), 2)
    fit(outer, split, split, Training(epochs=3, batch_size=4), 0)
    assert isinstance(deployed(outer), Linear)
    assert all(weights.requires_grad for weights in deployed(outer).parameters())


def test_fast_training_takes_one_step() -> None:
    """Its loss lies between that of the sample and that of the worst corner."""
    x, y = batch()
    guard: Any = fast_adversarial_training(Linear, Domain((6,), 2), epsilon=0.1)
    margin = (guard.model.weight[1] - guard.model.weight[0]).detach()
    worst = cross_entropy(guard.model(x + 0.1 * ((1 - 2 * y)[:, None] * margin).sign()), y)
    # From any start 1.25 epsilon towards the corner lead beyond the sample, by a quarter at least.
    with torch.no_grad():
        found, plain = float(guard.training_loss(x, y, 8)), float(cross_entropy(guard.model(x), y))
    assert plain < found <= float(worst.detach()) + 1e-6


def test_trades_is_its_formula_at_the_point_that_it_finds() -> None:
    """With beta → 0 it is the cross-entropy; the rest is beta times a mean KL in the ball.

    The KL's greatest value over a linear model's Linf ball lies in the margin's corner.
    """
    x, y = batch()
    plain = cross_entropy(Linear()(x), y)
    tiny: Any = trades(Linear, Domain((6,), 2), epsilon=0.1, beta=1e-9)
    assert torch.allclose(tiny.training_loss(x, y, 8), plain, atol=1e-6)
    guard: Any = trades(Linear, Domain((6,), 2), epsilon=0.1, beta=2.0, steps=20)
    model = guard.model
    way = (model.weight[1] - model.weight[0]).detach().sign()
    there = model(x).log_softmax(1).detach()
    corners = torch.stack(
        [
            kl_div(model(x + s * way).log_softmax(1), there, reduction="none", log_target=True).sum(
                1
            )
            for s in (-0.1, 0.1)
        ]
    )
    extra = ((guard.training_loss(x, y, 8) - plain) / 2).detach()
    corners = corners.detach()
    assert float(extra) <= float(corners.amax(0).mean()) + 1e-6
    # A walk may end in the lower of the two corners, never far below it.
    assert float(extra) >= 0.9 * float(corners.amin(0).mean())


def test_label_smoothing_is_torchs() -> None:
    """The truth is torch's own cross-entropy with label_smoothing."""
    x, y = batch()
    guard: Any = label_smoothing(Linear, Domain((6,), 2), smoothing=0.2)
    truth = cross_entropy(guard.model(x), y, label_smoothing=0.2)
    assert torch.allclose(guard.training_loss(x, y, 8), truth)


def test_mixup_of_a_batch_of_equals_is_the_plain_loss() -> None:
    """Mixing a sample with itself changes nothing; mixing others does; validation is not mixed."""
    x, y = batch()
    guard: Any = mixup(Linear, Domain((6,), 2), alpha=1.0)
    same_x, same_y = x[:1].expand(8, 6), y[:1].expand(8)
    plain = cross_entropy(guard.model(same_x), same_y)
    assert torch.allclose(guard.training_loss(same_x, same_y, 8), plain)
    assert not torch.allclose(guard.training_loss(x, y, 8), cross_entropy(guard.model(x), y))
    with torch.no_grad():
        assert torch.equal(guard.training_loss(x, y, 8), cross_entropy(guard.model(x), y))


def test_a_model_that_fits_itself_is_refused() -> None:
    """Its loss is its own affair; the message says what can be used."""
    with pytest.raises(NotApplicable, match="fits itself: use mlp or cnn"):
        trades(lambda: get("model", "logistic").function(DOMAIN, solver="numpy"), DOMAIN)


def heaps(count: int) -> Split:
    """Return three heaps of points that are easily told apart."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 3
    x = (0.1 * torch.randn(count, 6, generator=draw) + y[:, None] / 3 + 0.15).clamp(0, 1)
    return Split(x, y, torch.arange(count), 3)


def small() -> nn.Module:
    module: nn.Module = get("model", "mlp").function(DOMAIN, hidden=(8,))
    return module


def test_the_vote_is_that_of_the_members() -> None:
    """Counted by hand; the gradient is that of the mean probability."""
    guard: Any = ensemble_vote(small, DOMAIN, members=3)
    x = torch.rand(20, 6, requires_grad=True)
    labels = torch.stack([member(x).argmax(1) for member in guard.members])
    counted = torch.stack([(labels == number).sum(0) for number in range(3)], 1)
    assert torch.equal(guard.votes(x), counted)
    assert torch.equal(guard(x), counted.float())
    (mine,) = torch.autograd.grad(guard(x)[:, 0].sum(), x)
    mean = torch.stack([member(x).softmax(1) for member in guard.members]).mean(0)
    (truth,) = torch.autograd.grad(3 * mean[:, 0].sum(), x)
    assert torch.allclose(mine, truth, atol=1e-6)


def test_a_certificate_is_what_trying_everything_finds() -> None:
    """Each poison turns one member's vote to any class: the least number that changes the answer.

    All votes of up to five members on three classes are tried; with r certified, r turned votes
    never change the answer, and r + 1 do.
    """
    for votes in product(range(6), repeat=3):
        if sum(votes) == 0:
            continue
        counts = torch.tensor([votes])
        winner, certified = int(counts.argmax()), int(certified_poisons(counts))
        if certified < sum(votes):
            needed = _least_turned(votes, winner)
            assert needed == certified + 1, (votes, needed, certified)


def _least_turned(votes: tuple[int, ...], winner: int) -> int:
    """Return how many votes of the winner must go to one rival before the winner changes."""
    for turned in range(sum(votes) + 1):
        for rival in range(3):
            if rival != winner and votes[winner] >= turned:
                moved = list(votes)
                moved[winner] -= turned
                moved[rival] += turned
                if moved.index(max(moved)) != winner:
                    return turned
    return sum(votes) + 1


def test_a_poison_reaches_one_member_alone() -> None:
    """A label is turned, a sample is added: all but one member stay the same to the last bit."""
    train, held = heaps(90), heaps(30)
    how = Training(epochs=3, batch_size=16)

    def members(split: Split) -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            guard: Any = partition_aggregation(small, DOMAIN, parts=4)
        fit(guard, split, held, how, 0)
        return [member.state_dict()["body.1.weight"] for member in guard.members]

    before = members(train)
    turned = Split(train.x, train.y.index_fill(0, torch.tensor([5]), 1), train.ids, 3)
    added = Split(
        torch.cat([torch.rand(1, 6), train.x]),
        torch.cat([torch.tensor([2]), train.y]),
        torch.arange(91),
        3,
    )
    for poisoned in (turned, added, train.at(torch.arange(1, 90))):
        after = members(poisoned)
        changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert sum(changed) == 1


def test_parts_are_all_of_the_data_once() -> None:
    """And too many parts are refused."""
    parts = partition(heaps(90), 4)
    assert sorted(int(name) for part in parts for name in part.ids) == list(range(90))
    with pytest.raises(BadInput, match="use fewer parts"):
        partition(heaps(9), 50)


def test_options_out_of_range_are_named() -> None:
    """One line each."""
    with pytest.raises(BadOption, match="epsilon"):
        pgd_adversarial_training(small, DOMAIN, epsilon=0.0)
    with pytest.raises(BadOption, match="warm_up=-1"):
        trades(small, DOMAIN, warm_up=-1.0)
    with pytest.raises(BadOption, match="warm_up=inf"):
        fast_adversarial_training(small, DOMAIN, warm_up=float("inf"))
    with pytest.raises(BadOption, match="decay=1"):
        weight_averaging(small, DOMAIN, decay=1.0)
    with pytest.raises(NotApplicable, match="fits itself"):
        weight_averaging(lambda: ensemble_vote(small, DOMAIN), DOMAIN)
    with pytest.raises(BadOption, match="beta"):
        trades(small, DOMAIN, beta=-1.0)
    with pytest.raises(BadOption, match="steps"):
        pgd_adversarial_training(small, DOMAIN, steps=0)
    with pytest.raises(BadOption, match="smoothing"):
        label_smoothing(small, DOMAIN, smoothing=1.0)
    with pytest.raises(BadOption, match="alpha"):
        mixup(small, DOMAIN, alpha=0.0)
    with pytest.raises(BadOption, match="2 or more"):
        ensemble_vote(small, DOMAIN, members=1)
    with pytest.raises(BadOption, match="2 or more"):
        partition_aggregation(small, DOMAIN, parts=1)
