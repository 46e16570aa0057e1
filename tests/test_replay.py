"""Captured passes: when they are replayed, that results outlive the next one, and falling back."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.attacks._ascent import ascend, begin_ascent
from trustml.attacks._losses import cross_entropy
from trustml.attacks._pursuit import look, untouched
from trustml.attacks._quarry import Quarry
from trustml.attacks.pgd import pgd
from trustml.contracts import Access
from trustml.randomness import keyed
from trustml.replay import Replayed
from trustml.threats import Lp

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
Ask = Callable[[Tensor], Tensor]


class Film:
    """Stands in for CUDA graphs: one place for inputs, answers and gradients of a shape."""

    def __init__(self, spoiled: bool = False) -> None:
        self.shapes: list[int] = []
        self.replays, self.spoiled = 0, spoiled

    def __call__(self, model: Ask, x: Tensor) -> Ask:
        self.shapes.append(len(x))
        place, answers, gradient = x.detach().clone(), model(x).detach().clone(), x.detach().clone()
        film = self

        class Play(torch.autograd.Function):
            @staticmethod
            def forward(ctx: object, point: Tensor) -> Tensor:
                assert point.shape == place.shape, "a graph has one shape"
                film.replays += 1
                place.copy_(point)
                answers.copy_(model(place))
                return answers.detach()

            @staticmethod
            def backward(ctx: object, slope: Tensor) -> Tensor:
                with torch.enable_grad():
                    again = place.clone().requires_grad_()
                    (found,) = torch.autograd.grad(model(again), again, slope)
                gradient.copy_(2 * found if film.spoiled else found)
                return gradient.detach()

        return Play.apply


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)).requires_grad_(False)


def attacked(model: object, count: int = 100) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    x = torch.rand(count, 6)
    handed = Handed(model, Access.GRADIENTS, count, block=(8, 16, 64))  # type: ignore[arg-type]
    threat, random = Lp("linf", 0.05), keyed(0, torch.arange(count))
    found = pgd(handed, x, network()(x).argmax(1), threat, random=random, steps=20)
    return found, handed.backwards


def test_replays_change_no_candidate_and_no_count() -> None:
    """The same attack with and without, of a count that is no block, so that rows are filled up."""
    film = Film()
    replayed = Replayed(network(), film)  # type: ignore[arg-type]
    for one, other in zip(attacked(network()), attacked(replayed), strict=True):
        assert torch.equal(one, other)
    assert film.replays > 0
    assert set(film.shapes) <= {8, 16, 64}  # blocks are the buckets
    assert len(film.shapes) == len(set(film.shapes))  # each captured once
    assert not replayed.notes


def test_results_outlive_the_next_replay() -> None:
    """Truth: the model itself; the stand-in writes each answer where the last one stood."""
    net = network()
    replayed = Replayed(net, Film())  # type: ignore[arg-type]
    kept = []
    for _ in range(6):
        x = torch.rand(8, 6, requires_grad=True)
        logits = replayed.once(x)
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
        kept.append((x, logits.detach(), gradient))
    for x, logits, gradient in kept:
        (truth,) = torch.autograd.grad(net(x)[:, 0].sum(), x)
        assert torch.equal(logits, net(x))
        assert torch.allclose(gradient, truth)


def test_what_does_not_capture_is_computed_as_ever_and_noted() -> None:
    """An error while capturing; a graph that computes another gradient."""

    def refuses(model: Ask, x: Tensor) -> Ask:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    for capture, why in ((refuses, "not permitted"), (Film(spoiled=True), "otherwise")):
        replayed = Replayed(network(), capture)  # type: ignore[arg-type]
        assert torch.equal(attacked(replayed)[0], attacked(network())[0])
        assert replayed.notes
        assert all(why in note and "\n" not in note for note in replayed.notes)


def test_only_calls_whose_gradient_follows_at_once_are_replayed() -> None:
    """Two blocks of one shape share a graph's place, so a call of two blocks is not replayed."""
    film = Film()
    handed = Handed(Replayed(network(), film), Access.GRADIENTS, 16, block=8)  # type: ignore[arg-type]
    for _ in range(9):
        handed.once(torch.rand(16, 6, requires_grad=True))
        handed(torch.rand(8, 6, requires_grad=True))
        handed.once(torch.rand(8, 6))
    assert not film.replays


@CUDA
def test_a_captured_network_answers_as_it_does_eagerly() -> None:
    net = network().cuda()
    replayed = Replayed(net)  # type: ignore[arg-type]
    for _ in range(6):
        x = torch.rand(64, 6, device="cuda", requires_grad=True)
        logits = replayed.once(x)
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
        (truth,) = torch.autograd.grad(net(x)[:, 0].sum(), x)
        assert torch.allclose(logits, net(x), atol=1e-5)
        assert torch.allclose(gradient, truth, atol=1e-5)
    assert not replayed.notes
    assert len(replayed._graphs) == 1


@CUDA
def test_a_model_that_waits_for_the_device_is_not_captured() -> None:
    net = network().cuda()

    def waiting(x: Tensor) -> Tensor:
        return net(x) * (1.0 if float(x.sum()) > -1 else 2.0)

    replayed = Replayed(waiting)  # type: ignore[arg-type]
    for _ in range(6):
        x = torch.rand(8, 6, device="cuda", requires_grad=True)
        assert torch.allclose(replayed.once(x), net(x))
    assert len(replayed.notes) == 1


@CUDA
def test_the_inner_loop_never_waits_for_the_device() -> None:
    """Torch itself raises where a step would read the device."""
    net = network().cuda()
    x = torch.rand(64, 6, device="cuda")
    y, ids = net(x).argmax(1), torch.arange(64, device="cuda")
    quarry = Quarry(x, y, Lp("linf", 0.1), keyed(0, ids))
    handed = Handed(Replayed(net), Access.GRADIENTS, 64, block=64)  # type: ignore[arg-type]

    def loss(logits: Tensor, hunted: Quarry) -> Tensor:
        return cross_entropy(logits, hunted.y)

    walk, best = begin_ascent(quarry, torch.tensor(0.01, device="cuda"), True), untouched(quarry)
    for step in range(10):
        torch.cuda.set_sync_debug_mode("error" if step > 4 else "default")
        try:
            seen = look(handed, walk.point, quarry, loss)
            best = best.or_better(seen.point, seen.losses, seen.reached)
            walk = ascend(walk, seen, quarry)
        finally:
            torch.cuda.set_sync_debug_mode("default")
