"""Sizes of blocks that keep an answer's bits: found by looking, and left out where they do not."""

import torch
from torch import Tensor, nn

from trustml.access import _cut
from trustml.benchmarks.blocks import fitting_blocks


class Shaped(nn.Module):
    """A linear model that answers a hair higher to blocks of the given sizes, or for some rows."""

    def __init__(self, sizes: tuple[int, ...] = (), first_row: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.sizes, self.first_row = nn.Linear(4, 3), sizes, first_row

    def forward(self, x: Tensor) -> Tensor:
        # Row by row, so that nothing but what is planted depends on the block.
        logits = (x[:, None] * self.head.weight).sum(2)
        if len(x) in self.sizes:
            logits = logits * (1 + 2e-7)
        if self.first_row:
            logits = torch.cat([logits[:1] * 1.001, logits[1:]])
        return logits


def test_a_size_with_other_bits_is_left_out() -> None:
    """Planted: blocks of 24 and 128 rows are off by one unit in the last place."""
    x = torch.rand(100, 4)
    every = fitting_blocks(Shaped(), x)
    assert every is not None
    assert {8, 20, 56, 64, 256} <= set(every)
    fitting = fitting_blocks(Shaped((24, 128)), x)
    assert fitting == tuple(size for size in every if size not in (24, 128))


def test_only_the_usual_size_remains_where_the_time_is_up() -> None:
    assert fitting_blocks(Shaped(), torch.rand(10, 4), seconds=0.0) == (64,)


def test_a_model_whose_answers_depend_on_the_place_has_no_blocks() -> None:
    assert fitting_blocks(Shaped(first_row=True), torch.rand(64, 4)) is None


def test_a_size_too_large_for_the_model_is_left_out() -> None:
    """A model that cannot answer more than 100 rows at once (as for want of memory)."""

    class Small(Shaped):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 100:
                raise RuntimeError("not enough memory")
            return super().forward(x)

    fitting = fitting_blocks(Small(), torch.rand(64, 4))
    assert fitting is not None
    assert max(fitting) == 96


def test_blocks_hold_the_rows_and_waste_few() -> None:
    """Every row has a place; what is empty costs less than the calls that would save it."""
    sizes = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    for count in range(1, 700):
        cut = _cut(count, sizes)
        assert set(cut) <= set(sizes)
        assert 0 <= sum(cut) - count < 32
    for count, cut in ((64, (64,)), (65, (64, 64)), (1, (64,))):
        assert _cut(count, (64,)) == cut
