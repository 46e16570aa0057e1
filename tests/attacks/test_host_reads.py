"""How often an attack looks at the device: once at a checkpoint, never from step to step.

On a GPU a look waits until everything is computed that was asked for. Here, on a CPU, the looks are
counted between one question to the model and the next; on a GPU torch itself raises at a look.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trustml import randomness
from trustml.access import Handed
from trustml.attacks import _answers, _flights, _pursuit
from trustml.contracts import Domain
from trustml.geometry import like
from trustml.models.bnn import bnn
from trustml.randomness import keyed
from trustml.registry import get
from trustml.threats import Lp

SAMPLES, SHAPE, CLASSES = 24, (1, 6, 6), 4
# What gives the host a number, or a tensor whose shape depends on numbers.
LOOKS = {
    "_local_scalar_dense", "equal", "is_nonzero", "item", "masked_select", "nonzero", "_unique2",
    "unique_consecutive", "unique_dim",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_"}
# Calls that copy to the host, which on a CPU are no operations of their own.
COPIES = {"tolist", "numpy", "cpu"}
# Looks before the walk and after it: checks of what is given, who is won already, the last word.
AROUND = 2


class Counted(TorchDispatchMode):
    """Counts the looks."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        by_mask = name in INDEXING and any(
            rows is not None and rows.dtype in (torch.bool, torch.uint8) for rows in args[1]
        )
        self.looks += name in LOOKS or by_mask
        return function(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    """Tells of the copies to the host."""

    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self.counted = counted

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.counted.looks += getattr(function, "__name__", "") in COPIES
        return function(*args, **(kwargs or {}))


class Asked(nn.Module):
    """A model that does something each time that it is asked."""

    def __init__(self, net: nn.Module, each: Callable[[], None]) -> None:
        super().__init__()
        self.net, self.each = net, each

    def forward(self, x: Tensor) -> Tensor:
        self.each()
        answer: Tensor = self.net(x)
        return answer


def plain() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, CLASSES)
    return nn.Sequential(*layers).requires_grad_(False)


def dropout() -> nn.Module:
    torch.manual_seed(0)
    net = bnn(Domain(SHAPE, CLASSES), posterior="mc_dropout", body="mlp:hidden=[8]")
    return net.eval().requires_grad_(False)


# Balls so small that nobody is won, so that everyone walks to the end; for the nearest, one that
# holds them all.
SMALL, LARGE = 1e-5, 0.5
WALKS = [
    pytest.param(name, norm, epsilon, {count: 40}, build, id=f"{name}-{norm}-{build.__name__}")
    for name, norm, epsilon, count, build in (
        ("pgd", "linf", SMALL, "steps", plain),
        ("pgd", "l2", SMALL, "steps", plain),
        ("pgd", "linf", SMALL, "steps", dropout),
        ("apgd", "linf", SMALL, "steps", plain),
        ("apgd", "l2", SMALL, "steps", plain),
        ("momentum", "linf", SMALL, "steps", plain),
        ("fmn", "linf", LARGE, "steps", plain),
        ("fmn", "l2", LARGE, "steps", plain),
        ("square", "linf", SMALL, "queries", plain),
        ("square", "l2", SMALL, "queries", plain),
    )
]


def attack(
    name: str, norm: str, epsilon: float, options: dict[str, int], net: nn.Module, each: Any
) -> None:
    """Attack the samples; `each` is called before each question to the model."""
    where = next(net.parameters()).device
    x = torch.rand(SAMPLES, *SHAPE, generator=torch.Generator().manual_seed(1)).to(where)
    y, plugin = net(x).argmax(1), get("attack", name)
    handed = Handed(Asked(net, each), plugin.facts["needs"], SAMPLES, block=SAMPLES)  # type: ignore[arg-type]
    random = keyed(0, torch.arange(SAMPLES, device=where))
    plugin.function(handed, x, y, Lp(norm, epsilon), random=random, **options)  # type: ignore[arg-type]


def between(name: str, norm: str, epsilon: float, options: dict[str, int], net: Any) -> list[int]:
    """Return the looks between each question to the model and the next, within the walk."""
    counted, seen = Counted(), []
    with counted, Calls(counted):
        attack(name, norm, epsilon, options, net, lambda: seen.append(counted.looks))
    return [after - before for before, after in pairwise(seen)][AROUND:-AROUND]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off what looks on a CPU only, where a look costs nothing."""

    def where(better: Tensor, point: Tensor, other: Tensor) -> Tensor:
        return torch.where(like(better, point), point, other)

    monkeypatch.setattr(_pursuit, "_where", where, raising=False)
    monkeypatch.setattr(_answers, "FREE", ())
    monkeypatch.setattr(_answers, "check_labels", lambda answers, y: None)
    monkeypatch.setattr(randomness, "HOSTS", ())


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(("name", "norm", "epsilon", "options", "build"), WALKS)
def test_one_look_at_a_checkpoint_and_none_between(
    name: str, norm: str, epsilon: float, options: dict[str, int], build: Callable[[], nn.Module]
) -> None:
    """A walk of 40 steps looks after some of them, once each; twice as long, hardly more often."""
    looks = between(name, norm, epsilon, options, build())
    longer = between(name, norm, epsilon, {key: 80 for key in options}, build())
    assert len(looks) > 30, "the walk ended early, so that nothing was seen"
    assert max(looks) <= 1
    assert sum(looks) <= 0.3 * len(looks)
    assert sum(longer) - sum(looks) <= 0.25 * (len(longer) - len(looks))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_looks_grow_with_checkpoints_not_with_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a checkpoint every 40 steps a walk of 80 looks as often as one of 40, and once more."""
    monkeypatch.setattr(_flights, "_EVERY", 40)
    forty, eighty = (
        sum(between("pgd", "linf", SMALL, {"steps": steps}, plain())) for steps in (40, 79)
    )
    assert eighty - forty <= 1


@pytest.mark.usefixtures("as_on_a_gpu")
def test_it_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One number read at each step, by any of the usual ways, breaks the rule above."""
    usual = _pursuit.look
    for read in (lambda t: float(t.sum()), lambda t: t.tolist(), lambda t: t[t > 0]):

        def looked(*given: Any, read: Any = read) -> Any:
            seen = usual(*given)
            read(seen.losses)
            return seen

        monkeypatch.setattr(_pursuit, "look", looked)
        assert min(between("pgd", "linf", SMALL, {"steps": 40}, plain())) >= 1


def test_counted_rows_are_those_that_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a count and a stable sort, or by nonzero: the same rows in the same order."""
    torch.manual_seed(0)
    masks = [torch.rand(200) > share for share in (0.0, 0.3, 0.9, 1.0)]
    odd = torch.zeros(200, dtype=torch.bool)
    for broken in (False, True):
        odd[17] = broken
        found = [_answers.rows_of(mask, odd) for mask in masks]
        with monkeypatch.context() as patch:
            patch.setattr(_answers, "FREE", ())
            counted = [_answers.rows_of(mask, odd) for mask in masks]
        for mask, (one, said), (other, also) in zip(masks, found, counted, strict=True):
            assert torch.equal(one, mask.nonzero()[:, 0])
            assert torch.equal(one, other)
            assert said == also == broken


@pytest.mark.usefixtures("as_on_a_gpu")
def test_draws_of_dropout_look_at_nothing() -> None:
    """Thirty-two networks drawn and asked."""
    net, counted = dropout(), Counted()
    with counted, Calls(counted), torch.no_grad():
        net.sample_logits(torch.rand(SAMPLES, *SHAPE), 32)
    assert counted.looks == 0


@contextmanager
def refusing(looks: list[int]) -> Iterator[Callable[[], None]]:
    """Yield what lets torch raise at a look wherever on the CPU there was none."""
    asked = [0]

    def each() -> None:
        place = asked[0] - AROUND
        quiet = 0 <= place < len(looks) and not looks[place]
        torch.cuda.set_sync_debug_mode("error" if quiet else "default")
        asked[0] += 1

    try:
        yield each
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(("name", "norm", "epsilon", "options", "build"), WALKS)
def test_on_a_gpu_torch_raises_at_a_look_between_checkpoints(
    name: str, norm: str, epsilon: float, options: dict[str, int], build: Callable[[], nn.Module]
) -> None:
    """The same walk: the mode is "error" wherever the CPU counted nothing."""
    looks = between(name, norm, epsilon, options, build())
    with refusing(looks) as each:
        attack(name, norm, epsilon, options, build().cuda(), each)
