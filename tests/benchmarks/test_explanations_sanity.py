"""Randomised weights, rank agreement, planted truth and leaks, where the answer is known."""

import pytest
import torch
from torch import Tensor, nn

from trustml.benchmarks.explained import Explained
from trustml.benchmarks.explanation_leak import _nearest_plane, _one_plane, leak
from trustml.benchmarks.explanation_sanity import (
    agreement,
    complexity_rise,
    data_randomisation,
    parameter_randomisation,
    randomised,
    rank_correlation,
)
from trustml.benchmarks.explanation_scores import compare
from trustml.benchmarks.explanation_truth import by_cells, localisation, mosaics, triggered
from trustml.errors import BadInput, BadOption, NotApplicable

X = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(1))
TARGET = torch.arange(10) % 3
ONE = torch.tensor([0])


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))


def slope(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The gradient of the target's logit."""
    leaf = x.clone().requires_grad_()
    chosen = model(leaf).gather(1, target[:, None]).sum()
    return torch.autograd.grad(chosen, leaf)[0]


def edges(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """A map that never looks at the model."""
    return x


def test_ranks_as_scipy_ranks_them() -> None:
    """With many equal values, as black margins give."""
    from scipy.stats import spearmanr

    first, second = (torch.randint(0, 5, (4, 1, 6, 6)).double() for _ in range(2))
    wanted = [spearmanr(a.flatten(), b.flatten())[0] for a, b in zip(first, second, strict=True)]
    assert torch.allclose(rank_correlation(first, second), torch.tensor(wanted).double())
    assert float(rank_correlation(first, first.exp()).min()) == pytest.approx(1)
    assert float(rank_correlation(first, first * 0).abs().max()) == 0


def test_layers_lose_what_they_learnt_one_by_one() -> None:
    """From below: first the first layer; each stage keeps the others; the original stays whole."""
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, both = randomised(model, "bottom_up", 0)
    assert not torch.equal(first[1].weight, model[1].weight)
    assert torch.equal(first[3].weight, model[3].weight)
    assert torch.equal(both[1].weight, first[1].weight)
    assert not torch.equal(both[3].weight, model[3].weight)
    top, _ = randomised(model, "top_down", 0)
    assert torch.equal(top[1].weight, model[1].weight)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(NotApplicable, match="no weights"):
        list(randomised(nn.Flatten(), "top_down", 0))


def test_weights_without_a_way_to_be_reset_are_shuffled() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(12.0).view(3, 4))

    (stage,) = randomised(Bare(), "top_down", 0)
    weight = stage.get_parameter("weight")
    assert not torch.equal(weight, torch.arange(12.0).view(3, 4))
    assert torch.equal(weight.flatten().sort().values, torch.arange(12.0))


@pytest.mark.parametrize("order", ["bottom_up", "top_down"])
def test_a_map_of_the_input_alone_does_not_see_random_weights(order: str) -> None:
    """It agrees with itself fully; the slope of a linear model with random weights does not."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    same = parameter_randomisation(model, edges, X, TARGET, order=order)  # type: ignore[arg-type]
    exact = parameter_randomisation(model, slope, X, TARGET, order=order)  # type: ignore[arg-type]
    assert same.score.value == pytest.approx(1)
    assert abs(exact.score.value) < 0.25
    assert compare(exact, same).verdict == "better"


def test_every_stage_counts_alike() -> None:
    """The same map while the upper layer is left, then the opposite one: ρ of 1 and -1, mean 0."""
    model, ramp = network(), torch.arange(64.0).view(1, 1, 8, 8)
    top = model[3].weight.clone()

    def explain(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        same = torch.equal(model.get_parameter("3.weight"), top)
        return (ramp if same else -ramp).expand_as(x)

    found = parameter_randomisation(model, explain, X, TARGET)
    assert torch.allclose(found.values, torch.zeros(10).double(), atol=1e-9)
    assert found.score.better == "lower"


def test_random_weights_make_a_simple_map_complex() -> None:
    """A weight row on 4 of 64 places has entropy ln 4; uniform random weights some ln 64."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[:, 20:24] = 1
    rise = complexity_rise(model, slope, X, TARGET)
    # |U(-a, a)| normalised: E[-p ln p] gives ln 64 + ½ - ln 2 in the limit of many entries.
    wanted = (4.1589 + 0.5 - 0.6931) / 1.3863 - 1
    assert rise.score.value == pytest.approx(wanted, abs=0.06)
    assert complexity_rise(model, edges, X, TARGET).score.value == pytest.approx(0)


def test_shuffled_labels_and_agreement() -> None:
    """The same map agrees fully, the opposite one by -1; names are paired in order."""
    maps = torch.randn(5, 1, 4, 4)
    found = agreement({"a": maps, "b": -maps, "c": maps * 3})
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [round(one.score.value, 6) for one in found.values()] == [-1, 1, -1]
    assert data_randomisation(maps, torch.randn(5, 1, 4, 4)).score.better == "lower"
    with pytest.raises(BadInput, match="cannot be compared"):
        rank_correlation(maps, maps[:2])


def test_localisation_of_a_known_map() -> None:
    """Three of four positive tenths within; the peak is; of the two largest one is."""
    parts = torch.zeros(1, 1, 2, 3)
    parts[0, 0, 0] = torch.tensor([0.5, 0.1, 0.4])
    parts[0, 0, 1] = torch.tensor([-2.0, 0.0, 0.0])
    truth = torch.zeros(1, 1, 2, 3, dtype=torch.bool)
    truth[0, 0, 0, :2] = True
    explained = Explained(parts, torch.tensor([0]), parts, False)
    found = localisation(explained, parts, truth)
    assert found.pointing.score.value == 1
    assert found.mass.score.value == pytest.approx(0.6)
    assert found.top.score.value == 0.5
    with pytest.raises(BadInput, match="leave some out"):
        localisation(explained, parts, ~torch.zeros_like(truth))
    with pytest.raises(BadInput, match="mask like x"):
        localisation(explained, parts, truth.float())


class Templates(nn.Module):
    """Four classes, one bright quarter each; the logit is the quarter's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 4, bias=False)
        with torch.no_grad():
            self.head.weight.zero_()
            for k in range(4):
                rows, columns = (
                    slice(4 * (k // 2), 4 * (k // 2) + 4),
                    slice(4 * (k % 2), 4 * (k % 2) + 4),
                )
                self.head.weight.view(4, 8, 8)[k, rows, columns] = 1 / 16

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def templates(count: int) -> tuple[Tensor, Tensor]:
    y = torch.arange(count) % 4
    x = torch.zeros(count, 1, 8, 8)
    for row, k in enumerate(y.tolist()):
        x[row, 0, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] = 1
    return x, y


def test_a_mosaic_holds_its_target_in_one_cell() -> None:
    """Exact parts of a linear model lie in the target's cell alone; random ones in a quarter."""
    planted = mosaics(Templates(), *templates(16), count=40)
    assert planted.x.shape == (40, 1, 16, 16)
    assert bool((planted.truth.flatten(1).sum(1) == 64).all())
    with torch.no_grad():
        logits = planted.model(planted.x)
    # Each of four classes stands in one cell: the mean of its logit over cells is a quarter.
    assert torch.allclose(logits, torch.full((40, 4), 0.25))
    exact = Explained(
        planted.x, planted.target, slope(planted.model, planted.x, planted.target), True
    )
    found = localisation(exact, planted.x * 0, planted.truth)
    assert found.pointing.score.value == found.mass.score.value == 1
    noise = Explained(planted.x, planted.target, torch.randn_like(planted.x), False)
    by_chance = localisation(noise, planted.x * 0, planted.truth)
    assert by_chance.mass.score.value == pytest.approx(0.25, abs=0.03)
    assert by_chance.top.score.value == pytest.approx(0.25, abs=0.03)
    assert compare(found.mass, by_chance.mass).verdict == "better"
    assert len({int(mask.flatten().float().argmax()) for mask in planted.truth}) == 4
    with pytest.raises(NotApplicable, match="four classes"):
        mosaics(Templates(), X, TARGET, count=1)


def test_cells_contribute_what_the_model_gives_them() -> None:
    """Of a model with a bias: exact parts get 1, upside down -1, the wrong cell 0, noise about 0.

    Another baseline than black would be seen: each cell contributes its logit beyond the bias.
    """
    model = Templates()
    model.head.bias = nn.Parameter(torch.tensor([3.0, -2.0, 1.0, 5.0]))
    x, y = templates(16)
    planted = mosaics(model, 0.2 * torch.rand_like(x) + 0.8 * x, y, count=60)
    exact = slope(planted.model, planted.x, planted.target)

    def found(maps: Tensor, influence: bool = True) -> Tensor:
        return by_cells(Explained(planted.x, planted.target, maps, influence), model).values

    assert torch.allclose(found(exact), torch.ones(60).double())
    assert torch.allclose(found(planted.x * exact, False), torch.ones(60).double())
    assert torch.allclose(found(-exact), -torch.ones(60).double())
    assert abs(float(found(torch.randn_like(exact), False).mean())) < 4 / 60**0.5
    assert float(found(exact * 0).abs().max()) == 0
    # All that is said lies in one cell out of four that contribute alike: cos = 1/√4.
    alike = Explained(torch.ones(1, 1, 16, 16), ONE, torch.zeros(1, 1, 16, 16), False)
    alike.maps[..., :8, :8] = 1.0
    assert float(by_cells(alike, model).values) == pytest.approx(0.5)


def test_a_trigger_calls_its_class_and_holds_the_evidence() -> None:
    """With the patch all are the target's; the exact parts within are known by hand."""
    x, y = templates(12)
    x = x * 0.9
    model = Templates()
    planted = triggered(model, x, torch.full((12,), 2), side=3)
    with torch.no_grad():
        assert bool((planted.model(planted.x).argmax(1) == 2).all())
        # Where nothing is bright nothing is called.
        assert torch.equal(planted.model(x * 0), model(x * 0))
        # The patch adds 100 to the target's logit, and nothing to the others'.
        more = planted.model(planted.x) - model(planted.x)
    wanted = torch.zeros(12, 4)
    wanted[:, 2] = 100
    assert torch.allclose(more, wanted, atol=1e-4)
    slopes = slope(planted.model, planted.x, planted.target)
    found = localisation(Explained(planted.x, planted.target, slopes, True), x * 0, planted.truth)
    assert found.pointing.score.value == 1
    weight = model.head.weight.detach()[2].view(1, 8, 8)
    parts, inside = (planted.x * weight).flatten(1), planted.truth.flatten(1)
    outside = (parts * ~inside).sum(1)
    within = 100 + (parts * inside).sum(1)
    assert torch.allclose(found.mass.values, (within / (within + outside)).double(), atol=1e-6)
    with pytest.raises(BadInput, match="same target"):
        triggered(model, x, y)


def test_one_explanation_of_each_class_gives_a_linear_model_away() -> None:
    """K queries with the weight rows: agreement 1. Plain logits need D + 1 = 65 queries."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.normal_(model[1].weight)
    nn.init.normal_(model[1].bias, std=2)
    pool, fresh = torch.rand(90, 1, 8, 8), torch.rand(300, 1, 8, 8)

    def explain(x: Tensor, target: Tensor) -> Tensor:
        return slope(model, x, target)

    found = leak(model, explain, pool, fresh, influence=True, points=(1, 5, 10, 22, 30))
    assert found.queries == (3, 15, 30, 66, 90)
    assert found.queries_to(1.0) == 3
    assert found.queries_to(1.0, explained=False) == 66
    parts = leak(model, lambda x, t: x * explain(x, t), pool, fresh, influence=False, points=(1,))
    assert parts.queries_to(1.0) == 3
    blind = leak(model, lambda x, t: torch.randn_like(x), pool, fresh, influence=True, points=(1,))
    assert blind.queries_to(0.99) is None


def test_each_thief_alone_copies_a_linear_model() -> None:
    """From points asked with their logits and slopes, both planes are the model itself."""
    weight, bias = torch.randn(3, 8).double(), torch.randn(3).double()
    known, new = torch.rand(4, 8).double(), torch.rand(20, 8).double()
    for thief in (_one_plane, _nearest_plane):
        answers = thief(known, known @ weight.T + bias, weight.expand(4, 3, 8), new)
        assert torch.allclose(answers, new @ weight.T + bias)


def test_the_nearest_point_lends_its_plane() -> None:
    """|x| known at -1 and 1, where its slopes are -1 and 1: right on either side."""
    known, slopes = torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([[[-1.0]], [[1.0]]])
    new = torch.tensor([[-0.5], [0.25], [3.0]]).double()
    found = _nearest_plane(known, known.abs(), slopes.double(), new)
    assert torch.allclose(found, new.abs())


def test_a_leak_needs_a_pool() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(BadInput, match="150 queries"):
        leak(model, edges, X, X, influence=True)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="points="):
        leak(model, edges, X, X, influence=True, points=())  # type: ignore[arg-type]
