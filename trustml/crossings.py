"""Where monotone functions of one number a sample cross zero: any, and sums of clamped terms."""

from collections.abc import Callable

import torch
from torch import Tensor

# Newton's steps from the left nearly always need two to five.
_NEWTON = 16


def crossing(
    excess: Callable[[Tensor], Tensor], above: Tensor, below: Tensor, rounds: int
) -> Tensor:
    """Return where (B, 1) the monotone `excess`, > 0 at `above`, crosses 0; `above` if it does not.

    False position with the weights of Anderson & Björck 1973, and bisection every other round, so
    that the bracket is known to shrink: two or three passes over the entries a round.
    """
    plus, minus = excess(above), excess(below)
    nowhere, edge = plus <= 0, above
    was_up = torch.zeros_like(plus)
    for number in range(rounds):
        share = (plus / (plus - minus)).clamp_(0.0, 1.0).nan_to_num_(0.5)
        guess = torch.lerp(above, below, share if number % 2 else torch.full_like(share, 0.5))
        value = excess(guess)
        up = value > 0
        side = up.to(plus.dtype) * 2 - 1
        weight = 1 - value / torch.where(up, plus, minus)
        weight = torch.where((weight > 0) & (side == was_up), weight, 0.5).where(
            side == was_up, 1.0
        )
        plus, minus = torch.where(up, value, plus * weight), torch.where(up, minus * weight, value)
        above, below = torch.where(up, guess, above), torch.where(up, below, guess)
        was_up = side
    return torch.where(nowhere, edge, guess)


def level(both: Tensor, far: Tensor, rounds: int) -> Tensor:
    """Return t (B, 1) with Σ clamp(size − t, 0, room) = far, at least 0.

    Each term is (size − t)₊ less (over − t)₊, where size is over longer than its room.

    Args:
        both: size and over, (B, 2, D).
        far: (B, 1).
        rounds: of the slower search, for rows that Newton's steps do not settle.
    """
    # On a GPU nobody asks whether all are settled: that would wait for the device.
    if both.is_cuda:
        return _searched(both, far, rounds)
    found, settled = _newton(both, far)
    rows = (~settled).nonzero()[:, 0]
    if not len(rows):
        return found
    return found.index_copy(0, rows, _searched(both[rows], far[rows], rounds))


def _newton(both: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Return t (B, 1) after Newton's steps from 0, and where (B,) the last changed nothing.

    The sum is made of straight pieces: on the right one a step lands on the crossing, and the next
    step lands there again, by every bit.
    """
    found, far = torch.zeros_like(far[:, 0]), far[:, 0]
    moving = torch.empty_like(both)
    for _ in range(_NEWTON):
        torch.gt(both, found[:, None, None], out=moving)
        free, full = moving.sum(2).unbind(1)
        mass, spent = moving.mul_(both).sum(2).unbind(1)
        before = found
        found = mass.sub_(spent).sub_(far).div_(free.sub_(full)).clamp_(min=0)
        if torch.equal(found, before):
            break
    return found[:, None], found == before


def _searched(both: Tensor, far: Tensor, rounds: int) -> Tensor:
    size, over = both.unbind(1)
    room, kept = size - over, torch.empty_like(size)
    zero = torch.zeros_like(size[:1, :1])

    def excess(guess: Tensor) -> Tensor:
        torch.sub(size, guess, out=kept)
        return torch.clamp(kept, zero, room, out=kept).sum(1, keepdim=True) - far

    return crossing(excess, torch.zeros_like(far), size.amax(1, keepdim=True), rounds)
