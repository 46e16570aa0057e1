"""NewtonFool: one step as the paper writes it, two classes in closed form, what it refuses."""

import pytest
import torch
from torch import Tensor, nn

from trustml.attacks.newton_fool import newton_fool
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

EVERYWHERE = float("inf")


@pytest.fixture(scope="module")
def halves() -> tuple[nn.Linear, Tensor, Tensor]:
    """Return two classes of six entries, inputs far from the walls and what they are read as."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model, x = nn.Linear(6, 2).double(), 0.5 + 0.2 * torch.rand(20, 6).double()
    with torch.no_grad():
        model.bias.sub_(model(x).median(0).values)
        return model, x, model(x).argmax(1)


def test_two_classes(halves: tuple[nn.Linear, Tensor, Tensor]) -> None:
    """Closed form: the slope points straight at the border, |lead| over its length away."""
    model, x, y = halves
    found = newton_fool(model, x, y, Lp("l2", EVERYWHERE), random=keyed(0, y), steps=300)
    with torch.no_grad():
        logits = model(x)
        least = (logits[:, 0] - logits[:, 1]).abs() / (model.weight[0] - model.weight[1]).norm()
        assert bool((model(found).argmax(1) != y).all())
    ratio = distance(found, x, "l2") / least
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= 1.05


@pytest.mark.parametrize("rate", [1e-3, 10.0])
def test_one_step(halves: tuple[nn.Linear, Tensor, Tensor], rate: float) -> None:
    """Algorithm 1: min(η ‖x‖ ‖∇p‖, p − 1 / K) of the probability, down its slope, by hand.

    With a short step no point wins; with a long one all do, 2 % beyond where the tangent says.
    """
    model, x, y = halves
    seen: list[Tensor] = []

    def spied(z: Tensor) -> Tensor:
        seen.append(z.detach().clone())
        return model(z)

    newton_fool(spied, x, y, Lp("l2", EVERYWHERE), random=keyed(0, y), steps=2, rate=rate)
    point = x.clone().requires_grad_()
    chance = model(point).softmax(1).gather(1, y[:, None])[:, 0]
    (slope,) = torch.autograd.grad(chance.sum(), point)
    steep, long = slope.norm(dim=1), x.norm(dim=1).clamp_min(1)
    fall = torch.minimum(rate * long * steep, 1.02 * (chance.detach() - 0.5))
    expected = x - (fall / steep.square())[:, None] * slope
    # The first two looks are at the inputs; the first samples to win leave no trace of others.
    after = seen[2]
    assert torch.allclose(after, expected.clamp(0, 1), atol=1e-9)


def test_a_sure_model(halves: tuple[nn.Linear, Tensor, Tensor]) -> None:
    """Where the probability is 1 to the last digit of float32 its logarithm still has a slope."""
    model, x, y = halves

    def sure(z: Tensor) -> Tensor:
        return (15 * (model(z.double()) / model(x).std())).float()

    found = newton_fool(
        sure, x.float(), y, Lp("l2", EVERYWHERE), random=keyed(0, y), steps=300
    )  # fmt: skip
    assert bool((sure(found).argmax(1) != y).all())


@pytest.mark.parametrize("options", [{"steps": 0}, {"rate": 0.0}])
def test_bad_options(halves: tuple[nn.Linear, Tensor, Tensor], options: dict[str, float]) -> None:
    """What was given is named."""
    model, x, y = halves
    with pytest.raises(BadOption, match=next(iter(options))):
        newton_fool(model, x, y, Lp("l2", EVERYWHERE), random=keyed(0, y), **options)
