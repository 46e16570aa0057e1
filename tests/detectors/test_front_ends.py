"""Front ends: temperature, ReAct, ASH, SCALE, ODIN."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn.functional import cross_entropy

from trustml.contracts import Outputs
from trustml.detectors.ash import ash
from trustml.detectors.mcp import mcp
from trustml.detectors.odin import odin
from trustml.detectors.react import react
from trustml.detectors.scale import scale
from trustml.detectors.temperature import temperature
from trustml.errors import BadOption, NotApplicable


class Plain(nn.Module):
    """The features are the inputs, so that what a front end does to them can be read off."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, classes)

    def features(self, x):
        return x

    def forward(self, x):
        return self.head(x)


@pytest.fixture
def plain() -> Plain:
    return Plain(4, 3).eval()


def read(model: Plain, x: torch.Tensor) -> Outputs:
    with torch.no_grad():
        return Outputs(model(x), model.features(x), x, model(x).argmax(1), model(x)[None])


def test_temperature_against_scipy(model, made) -> None:
    """The T of least cross-entropy, by scipy's bounded search."""
    validation = made(500)
    logits = validation.logits.double()

    def loss(degrees: float) -> float:
        return float(cross_entropy(logits / degrees, validation.y))

    expected = minimize_scalar(loss, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9})
    after = temperature(model, validation, validation)(validation)
    fitted = float((validation.logits / after.logits).mean())
    assert fitted == pytest.approx(expected.x, rel=1e-4)
    assert after.draws is not None
    assert torch.allclose(after.draws * fitted, validation.draws, rtol=1e-4)


def test_temperature_recovers_the_one_that_labels_were_drawn_at(model, made) -> None:
    """Labels drawn from softmax(z / 3) are calibrated at T = 3 and nowhere else."""
    logits = made(20_000).logits * 5
    labels = torch.multinomial((logits / 3).softmax(1), 1)[:, 0]
    validation = replace(made(20_000), logits=logits, y=labels)
    after = temperature(model, validation, validation)(validation)
    assert float((logits / after.logits).mean()) == pytest.approx(3, rel=0.05)


def test_temperature_where_every_answer_is_right(model, made) -> None:
    """The loss has no least value; the bound of the search stands for it, not infinity."""
    perfect = made(wrong=0.0)
    after = temperature(model, perfect, perfect)(perfect)
    assert torch.allclose(after.logits, perfect.logits * 1000, rtol=1e-4)


def test_react_by_hand(plain) -> None:
    """Training features 1 to 100 have the 90th percentile 90.1."""
    train = read(plain, torch.arange(1.0, 101).view(25, 4))
    test = read(plain, torch.tensor([[100.0, 90.0, -5.0, 95.0]]))
    after = react(plain, train, train, percentile=90.0)(test)
    expected = torch.tensor([[90.1, 90.0, -5.0, 90.1]])
    assert torch.allclose(after.features, expected)
    assert torch.allclose(after.logits, plain.head(expected))
    assert after.draws is None


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        # The two greatest of (4, 1, 3, 2) are kept, 7 of 10.
        ("p", [4.0, 0, 3, 0]),
        ("b", [5.0, 0, 5, 0]),
        ("s", [4 * 4.172734, 0, 3 * 4.172734, 0]),  # exp(10/7) = 4.172734
    ],
)
def test_ash_by_hand(variant: str, expected: list[float], plain) -> None:
    test = read(plain, torch.tensor([[4.0, 1, 3, 2]]))
    after = ash(plain, test, test, variant=variant, percentile=50.0)(test)
    assert torch.allclose(after.features, torch.tensor([expected]), rtol=1e-5)
    assert torch.allclose(after.logits, plain.head(torch.tensor([expected])), rtol=1e-5)


def test_scale_by_hand(plain) -> None:
    """All features grow by exp(10/7)."""
    test = read(plain, torch.tensor([[4.0, 1, 3, 2]]))
    after = scale(plain, test, test, percentile=50.0)(test)
    expected = torch.tensor([[4.0, 1, 3, 2]]) * torch.tensor(10 / 7).exp()
    assert torch.allclose(after.features, expected)


@pytest.mark.parametrize("method", [ash, scale])
def test_shaping_of_odd_features(method, plain) -> None:
    """All zeros stay zeros, not 0/0; at percentile 100 one feature is kept still."""
    zeros = read(plain, torch.zeros(2, 4))
    for percentile in (0.0, 50.0, 100.0):
        after = method(plain, zeros, zeros, percentile=percentile)(zeros)
        assert torch.equal(after.features, torch.zeros(2, 4))
    with pytest.raises(NotApplicable, match="0 or more"):
        method(plain, read(plain, -torch.ones(2, 4)), zeros)
    for percentile in (-1.0, 100.5):
        with pytest.raises(BadOption, match="from 0 to 100"):
            method(plain, zeros, zeros, percentile=percentile)


def test_odin_without_step_and_temperature_is_mcp(model, made) -> None:
    train, test = made(), made(30, seed=2)
    scorer = mcp(model, train, train)
    after = odin(model, train, train, temperature=1.0, epsilon=0.0)(test)
    assert torch.allclose(scorer(after), scorer(test), atol=1e-6)


def test_odin_in_the_limit_of_heat(model, made) -> None:
    """Log softmax(z / T) → (max z - mean z)/T - log K, so the order is that of max minus mean."""
    train, test = made(), made(30, seed=2)
    after = odin(model, train, train, temperature=1000.0, epsilon=0.0)(test)
    order = mcp(model, train, train)(after).argsort()
    gap = test.logits.amax(1) - test.logits.mean(1)
    assert torch.equal(order, gap.argsort(descending=True))
    assert not torch.equal(order, mcp(model, train, train)(test).argsort())


@pytest.mark.parametrize("degrees", [1.0, 1000.0])
def test_odin_steps_up_its_own_softmax(degrees: float, model, made) -> None:
    """Each entry moves by epsilon along the finite difference of log max softmax(z / T)."""
    test = made(60, seed=2)
    moved = odin(model, test, test, temperature=degrees, epsilon=0.01)(test).x - test.x

    def height(x):
        # A sum over T is scaled back, so that the differences do not drown in rounding.
        logits = torch.nn.functional.linear(x.relu(), *map(torch.Tensor.double, model.parameters()))
        return (logits / degrees).log_softmax(1).amax(1) * degrees

    for entry in range(test.x.shape[1]):
        shift = torch.zeros_like(test.x).double()
        shift[:, entry] = 1e-4
        with torch.no_grad():
            slope = height(test.x.double() + shift) - height(test.x.double() - shift)
        # Where the ReLU is shut the slope is 0, and the entry stays.
        expected = 0.01 * slope.where(test.x[:, entry] > 0, torch.zeros(())).sign()
        assert torch.allclose(moved[:, entry], expected.float(), atol=1e-6)


def test_odin_knows_what_it_moved(model, made) -> None:
    test = made(10, seed=2)
    after = odin(model, test, test, temperature=2.0, epsilon=0.05)(test)
    with torch.no_grad():
        assert torch.allclose(after.logits.float(), model(after.x) / 2, atol=1e-6)
        assert torch.allclose(after.features, model.features(after.x))
    assert after.draws is None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_odin_chooses_the_step_that_raises_validation_probability_most(model, made) -> None:
    """The choice against a search over the seven published steps, one by one."""
    validation = made(100)
    width = float(validation.x.max() - validation.x.min())
    steps = [width * step for step in (0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)]

    def likeness(step: float) -> float:
        after = odin(model, validation, validation, epsilon=step)(validation)
        return float(after.logits.softmax(1).amax(1).mean())

    chosen = odin(model, validation, validation, epsilon=None)(validation)
    best = odin(model, validation, validation, epsilon=max(steps, key=likeness))(validation)
    assert torch.allclose(chosen.x, best.x, atol=1e-6)


def test_odin_needs_gradients(made) -> None:
    class Deaf(nn.Module):
        def features(self, x):
            return x

        def forward(self, x):
            return x.detach()[:, :4]

    with pytest.raises(NotApplicable, match="gradients"):
        odin(Deaf(), made(), made())
