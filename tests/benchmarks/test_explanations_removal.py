"""Deletion, insertion and ROAD: curves of linear models known by hand, imputation by scipy."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trustml.benchmarks.explained import Explained
from trustml.benchmarks.explanation_removal import (
    deletion,
    insertion,
    removal_curve,
    road,
)
from trustml.benchmarks.explanation_scores import compare
from trustml.benchmarks.imputation import impute
from trustml.errors import BadOption, NotApplicable

WEIGHT = torch.tensor([[3.0, -1.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
X = torch.tensor([[1.0, 1.0, 1.0, 2.0]])
TARGET = torch.tensor([0])


def linear(x: Tensor) -> Tensor:
    return x @ WEIGHT.T


def test_the_deletion_curve_of_a_linear_model() -> None:
    """Parts 3, -1, 2, 1 of a logit of 5: it falls to 2, 0, -1, then rises to 0."""
    exact = Explained(X, TARGET, WEIGHT[:1], True)
    curve, shares = removal_curve(linear, exact, X * 0, steps=4, output="logit")
    assert curve.tolist() == [[5.0, 2.0, 0.0, -1.0, 0.0]]
    assert shares.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    area = deletion(linear, exact, X * 0, steps=4, output="logit").values
    assert float(area) == pytest.approx((3.5 + 1.0 - 0.5 - 0.5) / 4)
    back, _ = removal_curve(linear, exact, X * 0, steps=4, output="logit", back=True)
    assert back.tolist() == [[0.0, 3.0, 5.0, 6.0, 5.0]]
    gain = insertion(linear, exact, X * 0, steps=4, output="logit").values
    assert float(gain) == pytest.approx((1.5 + 4.0 + 5.5 + 5.5) / 4)


def test_the_curve_of_probabilities_and_of_answers() -> None:
    """Against a logit of 0, the probability is the logit's sigmoid; the class is chosen above 0."""
    exact = Explained(X, TARGET, WEIGHT[:1], True)
    logits = torch.tensor([[5.0, 2.0, 0.0, -1.0, 0.0]]).double()
    curve, _ = removal_curve(linear, exact, X * 0, steps=4)
    assert torch.allclose(curve, logits.sigmoid())
    area = deletion(linear, exact, X * 0, steps=4).values
    assert torch.allclose(area, torch.trapezoid(logits.sigmoid(), dx=0.25, dim=1))
    answers, _ = removal_curve(linear, exact, X * 0, steps=4, output="answer")
    assert answers.tolist() == [[1.0, 1.0, 1.0, 0.0, 1.0]]  # equal logits: the first class


def test_a_step_that_changes_nothing_is_not_asked_about() -> None:
    """Two of four places are black already: of five points of the curve three are looked at."""
    rows: list[int] = []

    def counting(x: Tensor) -> Tensor:
        rows.append(len(x))
        return linear(x)

    x = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    exact = Explained(x, TARGET, WEIGHT[:1], True)
    curve, _ = removal_curve(counting, exact, x * 0, steps=4, output="logit")
    assert curve.tolist() == [[5.0, 2.0, 0.0, 0.0, 0.0]]
    assert sum(rows) == 3


def test_no_order_deletes_or_inserts_better_than_the_exact_one() -> None:
    """All 24 orders: the parts' own order has the least area deleting, the greatest inserting."""
    exact = Explained(X, TARGET, WEIGHT[:1], True)
    options = {"steps": 4, "output": "logit"}
    gone = float(deletion(linear, exact, X * 0, **options).values)
    back = float(insertion(linear, exact, X * 0, **options).values)
    for order in permutations((1.0, 2.0, 3.0, 4.0)):
        other = Explained(X, TARGET, torch.tensor([order]), False)
        assert float(deletion(linear, other, X * 0, **options).values) >= gone - 1e-9
        assert float(insertion(linear, other, X * 0, **options).values) <= back + 1e-9


def test_steps_that_do_not_divide_use_the_shares_really_removed() -> None:
    """Three steps over four places: 0, 1, 3, 4 are gone, and the trapezoids are that wide."""
    exact = Explained(X, TARGET, WEIGHT[:1], True)
    curve, shares = removal_curve(linear, exact, X * 0, steps=3, output="logit")
    assert shares.tolist() == [0.0, 0.25, 0.75, 1.0]
    assert curve.tolist() == [[5.0, 2.0, -1.0, 0.0]]


def test_channels_of_an_image_go_together() -> None:
    """Parts summed over channels rank the pixels, and a pixel goes with all its channels."""
    maps = torch.tensor([[[[0.0, 5.0]], [[3.0, -4.0]]]])
    x = torch.ones(1, 2, 1, 2)
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.stack([x.flatten(1).sum(1), x.flatten(1).sum(1) * 0], 1)

    deletion(model, Explained(x, TARGET, maps, False), x * 0, steps=2, output="logit")
    assert seen[0][1].flatten().tolist() == [0.0, 1.0, 0.0, 1.0]


def test_equal_parts_are_ranked_by_lot() -> None:
    """A flat map must not be ranked from the top left: two seeds, two orders."""
    x, target = torch.rand(1, 50), torch.tensor([0])
    flat = Explained(x, target, torch.zeros(1, 50), False)
    areas = {
        float(deletion(lambda x: x, flat, x * 0, steps=50, output="logit", seed=seed).values)
        for seed in range(5)
    }
    assert len(areas) > 1


def test_imputed_pixels_are_means_of_their_neighbours() -> None:
    """The same linear system, written down pixel by pixel and solved by scipy."""
    from scipy.sparse import lil_matrix
    from scipy.sparse.linalg import spsolve

    x, holes = torch.rand(3, 2, 9, 7), torch.rand(3, 1, 9, 7) < 0.7
    found = impute(x, holes, 0.0, 0)
    assert torch.equal(found[~holes.expand_as(x)], x[~holes.expand_as(x)])
    for image in range(3):
        open_ = [(r, c) for r in range(9) for c in range(7) if holes[image, 0, r, c]]
        number = {place: at for at, place in enumerate(open_)}
        for channel in range(2):
            matrix, right = lil_matrix((len(open_), len(open_))), np.zeros(len(open_))
            for (row, column), at in number.items():
                for down in (-1, 0, 1):
                    for over in (-1, 0, 1):
                        place = (row + down, column + over)
                        if (down, over) == (0, 0) or not (0 <= place[0] < 9 and 0 <= place[1] < 7):
                            continue
                        weight = 1 / 6 if 0 in (down, over) else 1 / 12
                        matrix[at, at] += weight
                        if place in number:
                            matrix[at, number[place]] -= weight
                        else:
                            right[at] += weight * float(x[image, channel, place[0], place[1]])
            exact = spsolve(matrix.tocsr(), right)
            ours = [float(found[image, channel, r, c]) for r, c in open_]
            assert np.allclose(ours, exact, atol=1e-3)


def test_imputing_a_plane_gives_the_plane() -> None:
    """A flat image has flat holes; noise has the deviation asked for, in the holes only."""
    x, holes = torch.full((2, 1, 20, 20), 0.4), torch.zeros(2, 1, 20, 20, dtype=torch.bool)
    holes[:, :, 3:18, 4:17] = True
    assert torch.allclose(impute(x, holes, 0.0, 0), x, atol=1e-4)
    noisy = impute(x, holes, 0.1, 0)
    assert torch.equal(noisy[~holes], x[~holes])
    assert float((noisy[holes] - 0.4).std()) == pytest.approx(0.1, rel=0.2)


class Planted(nn.Module):
    """The answer hangs on a spot of 3 by 3: a bump there makes class 1."""

    def forward(self, x: Tensor) -> Tensor:
        spot = x[:, 0, 4:7, 4:7].flatten(1).mean(1)
        return torch.stack([1 - 2 * spot, 2 * spot - 1], 1) * 4


def spot() -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs with a bright spot, targets, and the exact map."""
    x = 0.2 * torch.rand(16, 1, 12, 12)
    x[:, :, 4:7, 4:7] += 0.7
    weight = torch.zeros_like(x)
    weight[:, :, 4:7, 4:7] = 8 / 9
    return x, torch.ones(16, dtype=torch.int64), weight


def test_removals_rank_the_exact_map_above_a_random_one() -> None:
    x, target, weight = spot()
    exact = Explained(x, target, weight, True)
    noise = Explained(x, target, torch.randn_like(x), False)
    for metric in (deletion, insertion, road):
        gap = compare(metric(Planted(), exact, x * 0), metric(Planted(), noise, x * 0))
        assert gap.verdict == "better", metric.__name__


def test_road_of_an_exact_and_an_upside_down_map() -> None:
    """Nine of 144 pixels decide: gone first, the class is lost at every share; gone last, kept."""
    x, target, weight = spot()
    up = road(Planted(), Explained(x, target, weight, True), x * 0, shares=(0.1, 0.3, 0.5))
    down = road(Planted(), Explained(x, target, -weight, True), x * 0, shares=(0.1, 0.3, 0.5))
    assert up.score.value == 1
    assert down.score.value == -1


def test_road_fills_in_from_neighbours_with_noise() -> None:
    """A flat image stays flat but for noise of the deviation asked for, in half of its places."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    x = torch.full((1, 1, 20, 20), 0.5)
    maps = torch.rand(x.shape, generator=torch.Generator().manual_seed(9))
    explained = Explained(x, TARGET, maps, False)
    road(model, explained, x * 0, shares=(0.5,), noise=0.05)
    for filled in seen:
        moved = filled[0][filled[0] != 0.5] - 0.5
        assert len(moved) == 200
        assert float(moved.std()) == pytest.approx(0.05, rel=0.2)
        assert abs(float(moved.mean())) < 4 * 0.05 / 200**0.5


def test_road_does_not_depend_on_the_batch() -> None:
    x, target, weight = spot()
    mixed = weight + torch.randn_like(x)
    together = road(Planted(), Explained(x, target, mixed, True), x * 0, output="probability")
    alone = road(Planted(), Explained(x, target, mixed, True).at(slice(3, 5)), x[3:5] * 0,
                 output="probability")  # fmt: skip
    assert torch.allclose(together.values[3:5], alone.values, atol=1e-3)


def test_what_has_no_neighbours_or_no_steps() -> None:
    exact = Explained(X, TARGET, WEIGHT[:1], True)
    with pytest.raises(NotApplicable, match="neighbours"):
        road(linear, exact, X)
    with pytest.raises(BadOption, match="steps=0"):
        deletion(linear, exact, X, steps=0)
    x, target, weight = spot()
    with pytest.raises(BadOption, match="between 0 and 1"):
        road(Planted(), Explained(x, target, weight, True), x, shares=(1.0,))
