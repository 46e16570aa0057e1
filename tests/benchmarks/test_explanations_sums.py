"""Sums of explanations on models where each figure is known in closed form."""

import pytest
import torch
from torch import Tensor, nn

from trustml.benchmarks.explained import Explained
from trustml.benchmarks.explanation_scores import Measured, compare, holm, mean_of, median_of
from trustml.benchmarks.explanation_sums import (
    completeness,
    infidelity,
    multi_baseline,
    sensitivity_n,
    squares,
)
from trustml.errors import BadInput, BadOption, NotApplicable

ROWS = 12


class Linear(nn.Module):
    """Two classes on inputs (1, 6, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(36, 2)

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def setting() -> tuple[Linear, Tensor, Tensor, Tensor]:
    """Return the model, inputs, targets, and the weight row of each target as its map."""
    model, x = Linear(), torch.rand(ROWS, 1, 6, 6)
    target = torch.arange(ROWS) % 2
    return model, x, target, model.head.weight.detach()[target].view_as(x)


def test_the_weight_row_is_complete_for_every_baseline() -> None:
    """w·(x - x₀) is f(x) - f(x₀); the float32 logits round it by some 1e-7."""
    model, x, target, weight = setting()
    exact = Explained(x, target, weight, influence=True)
    baselines = {"zero": x * 0, "mean": x.mean(0, keepdim=True).expand_as(x), "other": x.roll(1, 0)}
    for baseline in baselines.values():
        assert float(completeness(model, exact, baseline, relative=False).values.max()) < 1e-6
    assert float(multi_baseline(model, exact, baselines).values.max()) < 1e-5


def test_completeness_is_the_size_of_what_is_missing() -> None:
    """A map larger by a share of 0.25 misses by a quarter of the difference, at every sample."""
    model, x, target, weight = setting()
    more = Explained(x, target, 1.25 * weight, influence=True)
    assert torch.allclose(
        completeness(model, more, x * 0).values, torch.full((ROWS,), 0.25).double(), atol=1e-4
    )
    parts = Explained(x, target, weight * x, influence=False)
    assert float(completeness(model, parts, x * 0).score.high) < 1e-5


def test_an_attribution_is_complete_for_its_own_baseline_only() -> None:
    """w·x misses f(x) - f(x₀) by just w·x₀."""
    model, x, target, weight = setting()
    parts, other = Explained(x, target, weight * x, influence=False), x.roll(1, 0)
    wanted = (weight * other).double().flatten(1).sum(1).abs()
    found = completeness(model, parts, other, relative=False).values
    assert torch.allclose(found, wanted, atol=1e-5)
    assert float(multi_baseline(model, parts, {"own": x * 0, "other": other}).score.value) > 0.01


def test_the_worst_baseline_is_held_against_the_largest_gap() -> None:
    """Of w·x: |w·b| is missing at baseline b, as a share of the larger of |w·x| and |w·(x - b)|."""
    model, x, target, weight = setting()
    parts, other = Explained(x, target, weight * x, influence=False), 0.5 * x.roll(1, 0)
    at_black, at_other, missing = (
        (weight * point).double().flatten(1).sum(1).abs() for point in (x, x - other, other)
    )
    wanted = missing / torch.maximum(at_black, at_other)
    found = multi_baseline(model, parts, {"own": x * 0, "other": other}).values
    assert torch.allclose(found, wanted, rtol=1e-3)


def test_squares_of_all_sizes_stand_everywhere() -> None:
    """Sides of a tenth to a half of 20 pixels; of vectors, as large a share of the entries."""
    masks = squares(torch.zeros(1, 1, 20, 20), 400, seed=0)[:, 0]
    heights, widths = masks.any(2).sum(1), masks.any(1).sum(1)
    assert torch.equal(heights * widths, masks.sum((1, 2)))
    assert torch.equal(heights, widths)
    assert int(heights.min()) == 2
    assert int(heights.max()) == 10
    # A square of side s stands at an edge with chance 1/(21 - s), a fourteenth or so.
    for edge in (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]):
        assert 10 < int(edge.any(1).sum()) < 60
    sizes = squares(torch.zeros(1, 40), 400, seed=0).sum(1)
    assert int(sizes.min()) == 4
    assert int(sizes.max()) == 20


def test_subsets_are_as_large_as_asked() -> None:
    """Of ten ones set to zero, one and then five are gone in each copy."""
    gone: list[int] = []

    def model(x: Tensor) -> Tensor:
        gone.extend((x == 0).sum(1).tolist())
        return x @ torch.arange(10.0)[:, None].expand(10, 2)

    x = torch.ones(1, 10)
    explained = Explained(x, torch.tensor([0]), torch.rand(1, 10), False)
    sensitivity_n(model, explained, x * 0, shares=(0.1, 0.5), subsets=4)
    assert sorted(gone) == [0, 1, 1, 1, 1, 5, 5, 5, 5]


def test_gaussian_infidelity_of_a_linear_model() -> None:
    """0 for w; for w + a it is E (I·a)² = σ² ‖a‖², within 4 standard errors of a χ² mean."""
    model, x, target, weight = setting()
    exact = Explained(x, target, weight, influence=True)
    kind = {"perturbation": "gaussian", "sigma": 0.2, "draws": 500}
    assert float(infidelity(model, exact, x * 0, **kind).values.max()) < 1e-10
    extra = torch.randn_like(x)
    off = infidelity(model, Explained(x, target, weight + extra, True), x * 0, **kind).values
    wanted = 0.04 * extra.double().flatten(1).square().sum(1)
    assert torch.allclose(off, wanted, rtol=4 * (2 / 500) ** 0.5)


def test_removal_infidelity_is_that_of_the_parts() -> None:
    """An influence and its parts say the same of a removal: w is exact, 2 w·x misses by Δf²."""
    model, x, target, weight = setting()
    for maps, influence in ((weight, True), (weight * x, False)):
        exact = Explained(x, target, maps, influence)
        assert float(infidelity(model, exact, x * 0, draws=20).values.max()) < 1e-10
        assert float(infidelity(model, exact, x * 0, draws=20, scaled=True).values.max()) < 1e-10
    double = Explained(x, target, 2 * weight * x, False)
    masks = squares(x, 20, seed=0)
    wanted = ((weight * x)[:, None] * masks).double().flatten(2).sum(2).square().mean(1)
    assert torch.allclose(infidelity(model, double, x * 0, draws=20).values, wanted, atol=1e-6)
    # Half of it fits best: with the scale free, nothing is missing.
    assert float(infidelity(model, double, x * 0, draws=20, scaled=True).values.max()) < 1e-10


@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_agrees_with_captum(scaled: bool) -> None:
    """The same perturbations through captum's own metric, on a network, with both definitions."""
    from captum.metrics import infidelity as of_captum

    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3))
    x, target, maps = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 1]), torch.randn(4, 1, 6, 6)
    noise = 0.3 * torch.randn(50, 1, 6, 6, generator=torch.Generator().manual_seed(0))

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        moves = noise.repeat(4, 1, 1, 1)
        return moves, inputs - moves

    wanted = of_captum(
        model, perturb, x, maps, target=target, n_perturb_samples=50, normalize=scaled
    )
    ours = infidelity(
        model, Explained(x, target, maps, True), x * 0,
        perturbation="gaussian", sigma=0.3, draws=50, scaled=scaled,
    )  # fmt: skip
    assert torch.allclose(ours.values.float(), wanted.detach(), rtol=1e-4)


def test_gaussian_infidelity_asks_for_an_influence() -> None:
    model, x, target, weight = setting()
    with pytest.raises(BadOption, match="asks for an influence"):
        infidelity(model, Explained(x, target, weight, False), x, perturbation="gaussian")


def test_sensitivity_n_is_1_on_a_linear_model() -> None:
    """What a subset costs is the sum of its parts; with the sign flipped, -1; of noise, near 0."""
    model, x, target, weight = setting()
    baseline = x.roll(1, 0)

    def found(maps: Tensor) -> Tensor:
        return sensitivity_n(model, Explained(x, target, maps, True), baseline).values

    assert torch.allclose(found(weight), torch.ones(ROWS).double(), atol=1e-4)
    assert torch.allclose(found(-weight), -torch.ones(ROWS).double(), atol=1e-4)
    assert abs(float(found(torch.randn_like(x)).mean())) < 0.4


def test_sensitivity_n_of_a_constant_map_is_undefined() -> None:
    """Zero everywhere: every subset's sum is the same, so there is no correlation to speak of."""
    model, x, target, weight = setting()
    maps = weight.clone()
    maps[0] = 0
    found = sensitivity_n(model, Explained(x, target, maps, True), x * 0)
    assert found.undefined == 1
    assert bool(found.values[0].isnan())
    assert found.score.value == pytest.approx(1, abs=1e-4)


def test_every_sum_ranks_the_exact_map_above_a_random_one() -> None:
    model, x, target, weight = setting()
    baseline = x * 0
    exact = Explained(x, target, weight, True)
    noise = Explained(x, target, weight.std() * torch.randn_like(x), True)
    for metric in (completeness, infidelity, sensitivity_n):
        gap = compare(metric(model, exact, baseline), metric(model, noise, baseline))
        assert gap.verdict == "better", metric.__name__
        assert gap.score.low > 0
    many = {"zero": baseline, "other": x.roll(1, 0)}
    assert (
        multi_baseline(model, exact, many).score.high < multi_baseline(model, noise, many).score.low
    )


def test_the_bootstrap_interval_is_that_of_a_mean() -> None:
    """Of normal values, mean ± 1.96 σ/√n, as long as n is large."""
    values = 3 + 2 * torch.randn(400, generator=torch.Generator().manual_seed(1)).double()
    score = mean_of(values, "higher").score
    half = 1.96 * float(values.std()) / 20
    assert score.value == pytest.approx(float(values.mean()))
    assert score.high - score.value == pytest.approx(half, rel=0.08)
    assert score.value - score.low == pytest.approx(half, rel=0.08)


def test_pairs_tell_what_means_alone_do_not() -> None:
    """A steady gain of 0.1 in values that scatter by 10: sure in pairs; and its opposite."""
    noise = 10 * torch.randn(50).double()
    low, high = mean_of(noise, "lower"), mean_of(noise + 0.1, "lower")
    assert compare(low, high).verdict == "better"
    assert compare(high, low).verdict == "worse"
    assert compare(low, high).score.value == pytest.approx(0.1)
    same = compare(low, mean_of(noise + torch.randn(50) * 5, "lower"))
    assert same.verdict == "not distinguishable"
    assert same.score.low < 0 < same.score.high


def test_the_p_of_a_difference_has_two_sides() -> None:
    """Two standard errors above 0: p = 2 Φ(-2) = 0.0455, as far as 4000 resamples show it."""
    gaps = torch.randn(400, generator=torch.Generator().manual_seed(2)).double()
    gaps = (gaps - gaps.mean()) / gaps.std() + 2 / 20
    found = compare(mean_of(gaps, "higher"), mean_of(gaps * 0, "higher"))
    assert found.p == pytest.approx(0.0455, abs=0.014)


def test_many_comparisons_ask_for_more() -> None:
    """Holm: the smallest p times their number, then no smaller than the one before."""
    noise = torch.randn(60).double()
    base = mean_of(noise * 0, "higher")
    shaky = compare(mean_of(noise - noise.mean() + 0.27, "higher"), base)
    assert shaky.verdict == "better"
    raised = holm([shaky] * 10)
    assert {one.verdict for one in raised} == {"not distinguishable"}
    assert raised[0].p == pytest.approx(min(1, 10 * shaky.p))


def test_what_cannot_be_scored() -> None:
    model, x, target, weight = setting()
    with pytest.raises(BadInput, match="do not fit"):
        Explained(x, target, weight[:, :, :5], True)
    with pytest.raises(BadInput, match="finite"):
        Explained(x, target, weight / 0, True)
    with pytest.raises(NotApplicable, match="not one sample"):
        mean_of(torch.tensor([torch.nan]), "higher")
    with pytest.raises(BadInput, match="2 classes, and 7"):
        completeness(model, Explained(x, target + 6, weight, True), x)
    with pytest.raises(BadInput, match="same samples"):
        compare(mean_of(torch.rand(3), "higher"), mean_of(torch.rand(4), "higher"))
    with pytest.raises(BadOption, match="subsets=2"):
        sensitivity_n(model, Explained(x, target, weight, True), x, subsets=2)
    with pytest.raises(BadOption, match="draws=0"):
        infidelity(model, Explained(x, target, weight, True), x, draws=0)
    with pytest.raises(BadOption, match="one baseline"):
        multi_baseline(model, Explained(x, target, weight, True), {})
    assert isinstance(median_of(torch.rand(9), "lower"), Measured)
