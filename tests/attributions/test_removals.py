"""Explanations by leaving parts out: games with known values, sums by brute force, baselines."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trustml.attributions.blurred_random import blurred_random
from trustml.attributions.feature_ablation import feature_ablation
from trustml.attributions.kernel_shap import kernel_shap
from trustml.attributions.lime import lime
from trustml.attributions.occlusion import occlusion
from trustml.attributions.random import random
from trustml.attributions.shapley_exact import shapley_exact
from trustml.attributions.shapley_sampling import shapley_sampling
from trustml.baselines import baseline_of
from trustml.errors import BadInput, BadOption, NotApplicable, UnknownName

X = torch.tensor([[2.0, 3.0, 5.0], [1.0, -1.0, 4.0]])
TARGET = torch.tensor([0, 1])
BLACK = torch.zeros(1, 3)


def game(x: Tensor) -> Tensor:
    """f₀ = x₀ x₁ + 2 x₂ and f₁ = x₁ x₂: two share a product evenly, a sum is each one's own."""
    return torch.stack([x[:, 0] * x[:, 1] + 2 * x[:, 2], x[:, 1] * x[:, 2]], 1)


VALUES = torch.tensor([[3.0, 3.0, 10.0], [0.0, -2.0, -2.0]])


def test_shapley_values_of_a_game_known_by_hand() -> None:
    assert torch.allclose(shapley_exact(game, X, TARGET, BLACK), VALUES)


def test_shapley_sampling_of_many_orders_comes_near() -> None:
    """Each order is the value plus or minus at most half of the product."""
    found = shapley_sampling(game, X, TARGET, BLACK, draws=600)
    assert torch.allclose(found, VALUES, atol=4 * 3 / 600**0.5)


def test_kernel_shap_of_every_coalition_is_exact() -> None:
    """Its weights make the regression the Shapley values, once all coalitions are drawn evenly."""
    found = kernel_shap(game, X, TARGET, BLACK, draws=4000)
    assert torch.allclose(found, VALUES, atol=0.4)


def test_estimates_agree_with_enumeration_on_a_network() -> None:
    """On a network of five inputs, orders and regressions come near all 32 coalitions."""
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))
    x, target = torch.rand(3, 5), torch.tensor([0, 1, 1])
    background = torch.rand(6, 5)
    exact = shapley_exact(model, x, target, background, baseline="mean")
    for method in (shapley_sampling, kernel_shap):
        near = method(model, x, target, background, baseline="mean", draws=300)
        assert torch.allclose(near, exact, atol=0.02), method.__name__


def test_too_many_features_to_enumerate() -> None:
    with pytest.raises(NotApplicable, match="13 features"):
        shapley_exact(lambda x: x, torch.rand(1, 13), torch.tensor([0]), torch.rand(1, 13))
    x = torch.rand(1, 1, 8, 8)
    with pytest.raises(NotApplicable, match="16 features"):
        shapley_exact(lambda x: x.flatten(1), x, torch.tensor([0]), x, grid=4)


def test_lime_of_a_linear_model_finds_each_ones_share() -> None:
    """The surrogate is the model itself, whatever the samples' weights."""
    weight = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.5, 0.5]])
    found = lime(lambda x: x @ weight.T, X, TARGET, BLACK)
    assert torch.allclose(found, weight[TARGET] * X, atol=1e-4)
    shrunk = lime(lambda x: x @ weight.T, X, TARGET, BLACK, penalty=0.5)
    assert float(shrunk.abs().sum()) < float(found.abs().sum())


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 1), (3, 2), (4, 4)])
def test_occlusion_by_brute_force(window: int, stride: int) -> None:
    """Covering each window in turn; an entry gets the mean loss over the mean window's size."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 25, 3), nn.Tanh())
    x, target = torch.rand(2, 2, 5, 5), torch.tensor([2, 0])
    total, size, count = torch.zeros(2, 5, 5), torch.zeros(5, 5), torch.zeros(5, 5)
    logit = model(x).gather(1, target[:, None])[:, 0]
    starts = [start for start in range(0, 5, stride) if start < 5 - window + stride]
    for top in starts:
        for left in starts:
            covered = x.clone()
            here = (slice(top, top + window), slice(left, left + window))
            covered[:, :, *here] = 0
            loss = logit - model(covered).gather(1, target[:, None])[:, 0]
            total[:, *here] += loss[:, None, None]
            size[here] += 2 * size[here].numel()
            count[here] += 1
    wanted = total / count / (size / count)
    found = occlusion(model, x, target, x, window=window, stride=stride)
    assert torch.allclose(found, wanted[:, None].expand_as(x), atol=1e-6)


def test_feature_ablation_by_brute_force() -> None:
    """Cells of three pixels on a side of five: the last ones are smaller."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 3), nn.Tanh())
    x, background, target = torch.rand(1, 1, 5, 5), torch.rand(4, 1, 5, 5), torch.tensor([1])
    wanted = torch.zeros(5, 5)
    for here in ((slice(a, a + 3), slice(b, b + 3)) for a in (0, 3) for b in (0, 3)):
        gone = x.clone()
        gone[0, 0][here] = background.mean(0)[0][here]
        wanted[here] = ((model(x) - model(gone))[0, 1] / wanted[here].numel()).item()
    found = feature_ablation(model, x, target, background, baseline="mean", cell=3)
    assert torch.allclose(found[0, 0], wanted, atol=1e-6)


def test_the_baselines() -> None:
    """Zero is 0, the mean is the mean, blur keeps a flat image, a rival is another class's."""
    x = torch.full((2, 1, 6, 6), 0.3)
    background = torch.stack([torch.full((1, 6, 6), value) for value in (0.1, 0.4, 0.9)])
    target = torch.tensor([0, 1])

    def bright(x: Tensor) -> Tensor:
        """Class 1 from a mean of 0.5 on."""
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)

    def baseline(name: str) -> Tensor:
        return baseline_of(name, bright, x, target, background)

    assert torch.equal(baseline("zero"), torch.zeros_like(x))
    assert torch.allclose(baseline("mean"), torch.full_like(x, 1.4 / 3))
    assert torch.allclose(baseline("blur"), x)
    assert torch.allclose(baseline("rival")[:, 0, 0, 0], torch.tensor([0.9, 0.4]))
    spot = torch.zeros(1, 1, 15, 15)
    spot[..., 7, 7] = 1
    blurred = baseline_of("blur", bright, spot, target[:1], background)
    assert 0 < float(blurred.max()) < 0.05
    assert float(blurred.argmax()) == 7 * 15 + 7
    with pytest.raises(UnknownName, match="did you mean 'mean'"):
        baseline("meen")
    with pytest.raises(NotApplicable, match="no rival"):
        baseline_of("rival", bright, x, target, background[:1])
    with pytest.raises(NotApplicable, match="cannot be blurred"):
        baseline_of("blur", bright, X, TARGET, BLACK)
    with pytest.raises(BadInput, match="does not fit"):
        baseline_of("mean", bright, x, target, background[:0])


def test_random_maps_belong_to_their_input() -> None:
    """Standard normal; another seed or one changed entry gives another map."""
    x = torch.rand(40, 1, 28, 28)
    target = torch.zeros(40, dtype=torch.int64)
    maps = random(None, x, target, x)
    assert abs(float(maps.mean())) < 4 / maps.numel() ** 0.5
    assert abs(float(maps.std()) - 1) < 0.01
    assert abs(neighbours(maps)) < 0.03
    near = x.clone()
    near[0, 0, 3, 4] += 1e-6
    again = random(None, near, target, x)
    assert torch.equal(again[1:], maps[1:])
    for other in (again[0], random(None, x, target, x, seed=1)[0], maps[1]):
        assert (
            abs(float(torch.corrcoef(torch.stack([other.flatten(), maps[0].flatten()]))[0, 1]))
            < 0.15
        )


def test_blurred_random_maps_are_smooth() -> None:
    """Neighbours under a Gaussian of 2 pixels correlate by exp(-1/16); each map has variance 1."""
    x = torch.rand(40, 1, 28, 28)
    maps = blurred_random(None, x, torch.zeros(40, dtype=torch.int64), x)
    assert neighbours(maps) > 0.9
    assert torch.allclose(maps.flatten(1).std(1), torch.ones(40), atol=1e-3)


def neighbours(maps: Tensor) -> float:
    """Return how far entries side by side correlate."""
    pair = torch.stack([maps[..., 1:].flatten(), maps[..., :-1].flatten()])
    return float(torch.corrcoef(pair)[0, 1])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (occlusion, {"window": 0}),
        (occlusion, {"window": 2, "stride": 3}),
        (feature_ablation, {"cell": 0}),
        (kernel_shap, {"draws": 2}),
        (lime, {"penalty": -1.0}),
        (shapley_sampling, {"draws": 0}),
        (shapley_exact, {"grid": 0}),
        (blurred_random, {"sigma": 0.0}),
    ],
)
def test_options_out_of_range(method: Callable[..., Tensor], options: dict[str, float]) -> None:
    with pytest.raises(BadOption, match=f"{method.__name__}: "):
        method(game, X, TARGET, BLACK, **options)
