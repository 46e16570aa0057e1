"""Patch-RS on linear models, where the best patch is known by trying all."""

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.attacks.patch_rs import Hunt, _moved, _painted, patch_rs
from trustml.beyond import Beyond
from trustml.contracts import Access
from trustml.errors import BadOption
from trustml.randomness import keyed

SAMPLES, AREA = 6, 11
IDS = torch.arange(SAMPLES)
SHAPE = (2, 8, 7)
Y = torch.zeros(SAMPLES, dtype=torch.int64)
PATCHES = Beyond("patch", AREA / (SHAPE[1] * SHAPE[2]))


class Linear(nn.Module):
    """Logits (0, w·x − bias)."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
        self.bias = 0.0

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.slope).flatten(1).sum(1) - self.bias
        return torch.stack([0 * score, score], 1)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(SAMPLES, *SHAPE, generator=torch.Generator().manual_seed(4))


def best_of_all(model: Linear, x: Tensor) -> Tensor:
    """Return the highest w·x (B,) behind any patch of that area: all entries at walls."""
    each = torch.where(model.slope > 0, model.slope * (1 - x), -model.slope * x)
    gains = []
    for height in range(1, SHAPE[1] + 1):
        size = (height, min(AREA // height, SHAPE[2]))
        if size[1]:
            sums = nn.functional.avg_pool2d(each.sum(1, keepdim=True), size, stride=1)
            gains.append(sums.flatten(1).amax(1) * size[0] * size[1])
    return torch.stack(gains).amax(0) + (x * model.slope).flatten(1).sum(1)


def test_it_comes_near_the_best_square_and_never_past_it(images: Tensor) -> None:
    """Nothing gains more than the best patch. Of that, half and more is found, 0.7 on average.

    Weights without any order are the hardest there are: a patch that moves fits nowhere else.
    """
    model = Linear()
    model.bias = 1e3  # nobody is fooled, so that the search goes on to the end
    before = model(images)[:, 1]
    found = patch_rs(model, images, Y, PATCHES, random=keyed(0, IDS), queries=1500)
    best, after = best_of_all(model, images) - model.bias, model(found)[:, 1]
    assert bool(PATCHES.contains(found, images).all())
    assert bool((after <= best + 1e-4).all())
    share = (after - before) / (best - before)
    assert bool((share >= 0.5).all())
    assert float(share.mean()) >= 0.7


def test_whoever_is_won_is_asked_no_more(images: Tensor) -> None:
    """With a border that any patch crosses, two questions are enough: the input, and a patch."""
    model = Linear()
    model.bias = float(model(images)[:, 1].max()) + 1e-6
    eager = Beyond("patch", 1.0)
    handed = Handed(model, Access.PROBABILITIES, SAMPLES, block=SAMPLES)
    found = patch_rs(handed, images, Y, eager, random=keyed(0, IDS), queries=300)
    assert bool((model(found)[:, 1] > 0).all())
    assert float(handed.forwards.max()) < 301
    assert float(handed.forwards.min()) < 60


def hunt() -> Hunt:
    grey = torch.full((SAMPLES, *SHAPE), 0.5)
    sides = torch.tensor([[1, 1], [2, 2], [3, 3], [1, 7], [8, 1], [2, 5]])
    shown = torch.full((SAMPLES, SHAPE[0], 8, 7), 0.25)
    corner = torch.tensor([[0, 0], [6, 5], [5, 4], [2, 0], [0, 5], [6, 2]])
    area = torch.tensor([1, 4, 9, 7, 8, 11])
    return Hunt(IDS, grey, area, shown, corner, sides, torch.zeros(SAMPLES))


def test_a_patch_is_where_it_should_be() -> None:
    """Just as many rows and columns from the corner on show the patch."""
    here = hunt()
    for row, image in enumerate(here.point):
        (top, left), (high, wide) = here.corner[row].tolist(), here.sides[row].tolist()
        expected = torch.full(SHAPE, 0.5)
        expected[:, top : top + high, left : left + wide] = 0.25
        assert torch.equal(image, expected)


def test_moves_stay_on_the_image_and_go_everywhere() -> None:
    """Moved as far as an image's side, each shape reaches all places that hold it."""
    seen: list[set[tuple[int, ...]]] = [set() for _ in range(SAMPLES)]
    here, random = hunt(), keyed(0, IDS)
    for step in range(1, 3000):
        moved = _moved(here, random, 1.0, step)
        assert bool((moved.sides.prod(1) <= moved.area).all() & (moved.sides >= 1).all())
        assert bool((moved.corner + moved.sides <= torch.tensor(SHAPE[1:])).all())
        for row, (corner, sides) in enumerate(zip(moved.corner, moved.sides, strict=True)):
            if torch.equal(sides, here.sides[row]):
                seen[row].add(tuple(corner.tolist()))
    for row, (high, wide) in enumerate(here.sides.tolist()):
        assert len(seen[row]) == (SHAPE[1] - high + 1) * (SHAPE[2] - wide + 1)


def test_patches_change_their_shape() -> None:
    """A pixel higher or lower, each as often as the other, and as long as the area allows."""
    here, random = hunt(), keyed(0, IDS)
    heights = torch.stack([_moved(here, random, 0.0, n).sides[2] for n in range(1, 800)])
    taller = heights[:, 0] - 3
    assert set(map(tuple, heights.tolist())) == {(2, 4), (3, 3), (4, 2)}
    for way in (-1, 1):  # a quarter each, give or take four standard deviations
        assert abs(float((taller == way).double().mean()) - 0.25) < 4 * (0.25 * 0.75 / 799) ** 0.5


@pytest.mark.parametrize("share", [1.0, 0.12])
def test_a_part_of_one_colour_is_painted(share: float) -> None:
    """√share of the patch's sides, at a wall in every channel, and nothing outside the patch."""
    here = hunt()
    shown = _painted(here, keyed(1, IDS), share, PATCHES, 1).shown
    for row, (high, wide) in enumerate(here.sides.tolist()):
        changed = shown[row] != 0.25
        expected = [max(1, round(share**0.5 * side)) for side in (high, wide)]
        assert [int(changed[0].any(axis).sum()) for axis in (1, 0)] == expected
        assert int(changed[0].sum()) == expected[0] * expected[1]
        assert bool((changed[0] == changed[1]).all())
        values = shown[row][changed].view(SHAPE[0], -1)
        assert bool((values == values[:, :1]).all() & ((values == 0) | (values == 1)).all())
        assert not bool(changed[:, high:].any() | changed[:, :, wide:].any())


@pytest.mark.parametrize(
    "options", [{"queries": 0}, {"painted": 0.0}, {"painted": 2.0}, {"moves": 0}]
)
def test_options_out_of_range(images: Tensor, options: dict[str, float]) -> None:
    """Each is refused before anything is asked."""
    with pytest.raises(BadOption, match=next(iter(options))):
        patch_rs(Linear(), images, Y, PATCHES, random=keyed(0, IDS), **options)
