"""Momentum and its kin: plain loops as the papers write them, a linear model, views of images."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.attacks.conftest import Linear
from trustml.attacks._views import blurred, shrunk
from trustml.attacks.bim import bim
from trustml.attacks.momentum import momentum
from trustml.contracts import Norm
from trustml.errors import BadOption, NotApplicable
from trustml.randomness import keyed
from trustml.threats import Lp

EPSILON, STEPS = 0.3, 6


@pytest.fixture(scope="module")
def images() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a small network, nine images of 8 × 7 and the labels that it gives them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(180, 4)
        ).double()  # fmt: skip
        x = torch.rand(9, 2, 8, 7).double()
    return model, x, model(x).argmax(1)


def slope(model: nn.Module, point: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss at the points and its gradient."""
    point = point.detach().requires_grad_()
    loss = functional.cross_entropy(model(point), y, reduction="none")
    return loss.detach(), torch.autograd.grad(loss.sum(), point)[0]


def loop(model: nn.Module, x: Tensor, y: Tensor, *, nesterov: bool, scales: int) -> Tensor:
    """Return the point of the highest loss, of Dong et al.'s equations 6-7 and Lin et al.'s 6-8."""
    point, speed, length = x, torch.zeros_like(x), EPSILON / STEPS
    best, height = x, torch.full((len(x),), -torch.inf).double()
    for number in range(STEPS + 1):
        ahead = point + length * speed if nesterov and number < STEPS else point
        ahead = torch.clamp(ahead, x - EPSILON, x + EPSILON).clamp(0, 1)
        loss, total = slope(model, ahead, y)
        better = loss > height
        best = torch.where(better[:, None, None, None], ahead, best)
        height = torch.maximum(loss, height)
        for power in range(1, scales):
            total = total + slope(model, ahead / 2**power, y)[1] / 2**power
        speed = speed + total / total.abs().mean((1, 2, 3), keepdim=True)
        point = torch.clamp(point + length * speed.sign(), x - EPSILON, x + EPSILON).clamp(0, 1)
    return best


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scales", [1, 3])
def test_the_walk_of_the_papers(
    images: tuple[nn.Module, Tensor, Tensor], nesterov: bool, scales: int
) -> None:
    """The same points as a plain loop that is written from the equations."""
    model, x, y = images
    found = momentum(
        model, x, y, Lp("linf", EPSILON), random=keyed(0, torch.arange(9)), steps=STEPS,
        step=EPSILON / STEPS, nesterov=nesterov, scales=scales, stop=False,
    )  # fmt: skip
    expected = loop(model, x, y, nesterov=nesterov, scales=scales)
    assert torch.allclose(found, expected, atol=1e-9)
    assert not torch.allclose(found, loop(model, x, y, nesterov=not nesterov, scales=scales))


def test_variance_steadies_the_next_slope() -> None:
    """Of 4 u³ + v the slope at u = 0 is (0, 1), and around it on average (12 E[r²], 1).

    In a disc of radius 0.6 E[r²] is 0.09: the second of two moves goes by the sum of (0, 1) and
    what the first point's neighbours have more than it.
    """

    def cubic(z: Tensor) -> Tensor:
        return torch.stack([4 * z[:, 0] ** 3 + z[:, 1], z[:, 0] * 0], 1)

    x, y, random = torch.zeros(6, 2), torch.ones(6, dtype=torch.long), keyed(1, torch.arange(6))
    found = momentum(
        cubic, x, y, Lp("l2", 0.4, -1, 1), random=random, steps=2, step=0.2, decay=0.0,
        variance=300, loss="margin", stop=False,
    )  # fmt: skip
    way = torch.tensor([12 * 0.09, 1.0])
    expected = torch.tensor([0.0, 0.2]) + 0.2 * way / way.norm()
    assert torch.allclose(found, 0.4 * expected / expected.norm().clamp_min(0.4), atol=0.02)


def test_without_decay_it_is_bim(images: tuple[nn.Module, Tensor, Tensor]) -> None:
    """A velocity that keeps nothing is the slope itself."""
    model, x, y = images
    random = keyed(0, torch.arange(9))
    for norm, epsilon in (("linf", 0.05), ("l2", 0.4), ("l1", 2.0)):
        step = epsilon / 5
        threat = Lp(norm, epsilon)
        given: dict[str, Any] = {"random": random, "steps": 5, "step": step}
        found = momentum(model, x, y, threat, decay=0.0, **given)
        assert torch.allclose(found, bim(model, x, y, threat, **given), atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{}, {"nesterov": True}, {"variance": 3}, {"diversity": 0.5}, {"translation": 3}, {"scales": 3},
     {"nesterov": True, "variance": 2, "diversity": 0.7, "translation": 3, "scales": 2}],
)  # fmt: skip
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.4), ("l1", 1.5)])
def test_a_linear_model(
    linear: Linear, options: dict[str, Any], norm: Norm, epsilon: float
) -> None:
    """Closed form: nobody is fooled that cannot be; without views nearly all are that can.

    A slope seen through views or a kernel is another one: those aim worse on purpose.
    """
    threat = Lp(norm, epsilon)
    random = keyed(0, torch.arange(64))
    found = momentum(linear.model, linear.x, linear.y, threat, random=random, **options)
    assert bool(threat.contains(found, linear.x).all())
    fooled = linear.model(found).argmax(1) != linear.y
    assert not bool((fooled & ~linear.vulnerable(threat)).any())
    aims = not options.get("diversity") and not options.get("translation")
    assert fooled.sum() >= (0.8 if aims else 0.2) * linear.vulnerable(threat).sum()


def test_views_are_small_images_on_black() -> None:
    """A view is torch's own bilinear image of that size, padded; about half stay as they are."""
    images = torch.rand(200, 3, 20, 20).double()
    views = shrunk(images, keyed(0, torch.arange(200)), 0.5, 0)
    seen = views.of(images)
    same = (seen == images).flatten(1).all(1)
    assert 0.4 < same.double().mean() < 0.7  # of the others few have a full side
    for row in (~same).nonzero()[:, 0].tolist():
        inside = seen[row].amax(0) > 0
        tall, wide = int(inside.any(1).sum()), int(inside.any(0).sum())
        top, left = int(inside.any(1).long().argmax()), int(inside.any(0).long().argmax())
        assert 18 <= tall == wide < 20
        small = functional.interpolate(images[row : row + 1], (tall, wide), mode="bilinear")[0]
        part = seen[row, :, top : top + tall, left : left + wide]
        assert torch.allclose(part, small, atol=1e-12)


def test_slopes_are_led_back_through_views() -> None:
    """The slope of a function of what a view shows is what autograd says."""
    images = torch.rand(5, 2, 12, 9).double().requires_grad_()
    views, weight = shrunk(images, keyed(3, torch.arange(5)), 1.0, 0), torch.rand(5, 2, 12, 9)
    (slope,) = torch.autograd.grad((views.of(images).sin() * weight).sum(), images)
    shown = views.of(images).cos() * weight
    assert torch.allclose(views.back(shown), slope, atol=1e-12)


def test_a_kernel_is_gaussian() -> None:
    """One bright pixel becomes the product of two normal densities, of sum 1."""
    spot = torch.zeros(1, 1, 9, 9).double()
    spot[0, 0, 4, 4] = 1
    out = blurred(spot, 5)[0, 0, 2:7, 2:7]
    line = torch.distributions.Normal(0, 1).log_prob(torch.linspace(-3, 3, 5)).exp().double()
    assert torch.allclose(out, line[:, None] * line / line.sum() ** 2, atol=1e-7)
    assert out.sum() == pytest.approx(1)


def test_without_stopping_losses_are_higher(images: tuple[nn.Module, Tensor, Tensor]) -> None:
    """What is lent to another model goes on after its own is fooled."""
    model, x, y = images
    random, threat = keyed(0, torch.arange(9)), Lp("linf", EPSILON)
    stopped, gone_on = (
        slope(model, momentum(model, x, y, threat, random=random, stop=stop), y)[0]
        for stop in (True, False)
    )
    assert bool((gone_on >= stopped - 1e-9).all())
    assert bool((gone_on > stopped + 0.1).any())


@pytest.mark.parametrize(
    ("options", "said"),
    [({"steps": 0}, "steps=0"), ({"scales": 0}, "scales=0"), ({"variance": -1}, "variance=-1"),
     ({"decay": -0.1}, "decay=-0.1"), ({"step": 0.0}, "step=0"), ({"diversity": 1.5}, "from 0 to"),
     ({"translation": 4}, "odd")],
)  # fmt: skip
def test_bad_options(linear: Linear, options: dict[str, Any], said: str) -> None:
    """Each says what was given and what is allowed."""
    random = keyed(0, torch.arange(64))
    with pytest.raises(BadOption, match=said):
        momentum(linear.model, linear.x, linear.y, Lp("linf", 0.1), random=random, **options)


@pytest.mark.parametrize("option", [{"diversity": 0.5}, {"translation": 3}])
def test_views_are_of_images(option: dict[str, Any]) -> None:
    """A row of numbers has no size to change and no neighbours to blur with."""
    x, y = torch.rand(3, 5), torch.zeros(3, dtype=torch.long)
    with pytest.raises(NotApplicable, match="images"):
        momentum(nn.Linear(5, 3), x, y, Lp("linf", 0.1), random=keyed(0, y), **option)
