"""Flows of brightness from pixel to neighbouring pixel: a change that makes and loses nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trustml.measures._images import Box

# Rounds after which hardly a pixel gives what it has not, or takes what it cannot hold.
_ROUNDS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """What goes right from each pixel (B, C, H, W−1), and what goes down (B, C, H−1, W)."""

    right: Tensor
    down: Tensor

    def change(self) -> Tensor:
        """Return what each pixel gains (B, C, H, W)."""
        across = functional.pad(self.right, (1, 0)) - functional.pad(self.right, (0, 1))
        return (
            across
            + functional.pad(self.down, (0, 0, 1, 0))
            - functional.pad(self.down, (0, 0, 0, 1))
        )

    def work(self) -> Tensor:
        """Return how much goes how far (B,)."""
        return self.right.abs().flatten(1).sum(1) + self.down.abs().flatten(1).sum(1)

    def plus(self, other: "Flow", length: Tensor) -> "Flow":
        """Return this with so much (B, 1, 1, 1) of the other added."""
        return Flow(self.right + length * other.right, self.down + length * other.down)

    def within(self, work: Tensor) -> "Flow":
        """Return the nearest flow, in L2, whose work is at most `work` (B,)."""
        sizes = torch.cat([self.right.flatten(1), self.down.flatten(1)], 1).abs()
        ordered = sizes.sort(1, descending=True).values
        count = torch.arange(1, sizes.shape[1] + 1, device=sizes.device)
        level = (ordered.cumsum(1) - work[:, None]) / count
        # The last level that leaves its own entry something is the one.
        used = (ordered > level).sum(1, keepdim=True).clamp_min(1)
        taken = level.gather(1, used - 1).clamp_min(0)[:, :, None, None]
        return Flow(_shrunk(self.right, taken), _shrunk(self.down, taken))

    def allowed(self, x: Tensor, box: Box, rounds: int = _ROUNDS) -> "Flow":
        """Return the flow with less of it where x (B, C, H, W) would leave the box, but for crumbs.

        A pixel passes on what it has and gets, and takes what it has room for and gives: each round
        scales what leaves, then what enters, so that no flow ever grows.
        """
        flow, has, room = self, x - box[0], box[1] - x
        for _ in range(rounds):
            out, into = flow._passing()
            flow = flow._scaled((has + into) / out.clamp_min(1e-30), None)
            out, into = flow._passing()
            flow = flow._scaled(None, (room + out) / into.clamp_min(1e-30))
        return flow

    def _passing(self) -> tuple[Tensor, Tensor]:
        """Return what leaves each pixel, and what enters it (B, C, H, W)."""
        right, left = self.right.clamp_min(0), (-self.right).clamp_min(0)
        down, up = self.down.clamp_min(0), (-self.down).clamp_min(0)
        out = functional.pad(right, (0, 1)) + functional.pad(left, (1, 0))
        out = out + functional.pad(down, (0, 0, 0, 1)) + functional.pad(up, (0, 0, 1, 0))
        into = functional.pad(right, (1, 0)) + functional.pad(left, (0, 1))
        into = into + functional.pad(down, (0, 0, 1, 0)) + functional.pad(up, (0, 0, 0, 1))
        return out, into

    def _scaled(self, leaving: Tensor | None, entering: Tensor | None) -> "Flow":
        """Return the flow with each edge scaled by its source's or its sink's share, at most 1."""
        share = leaving if leaving is not None else entering
        assert share is not None, "one of them is given"
        share = share.clamp(0, 1)
        forth = leaving is not None
        first, last = share[..., :-1], share[..., 1:]
        right = self.right * torch.where((self.right > 0) == forth, first, last)
        first, last = share[..., :-1, :], share[..., 1:, :]
        return Flow(right, self.down * torch.where((self.down > 0) == forth, first, last))


def along(slope: Tensor) -> Flow:
    """Return the slope (B, C, H, W) of a loss as one of the flow: what a unit along it gains."""
    return Flow(slope[..., 1:] - slope[..., :-1], slope[..., 1:, :] - slope[..., :-1, :])


def _shrunk(values: Tensor, by: Tensor) -> Tensor:
    return (values.abs() - by.view(-1, 1, 1, 1)).clamp_min(0).copysign(values)
