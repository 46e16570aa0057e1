"""Mail that was tampered with: prepared on a model by an attacker with mail of its own."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.benchmarks.batch_rows import batch_rows
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.route_guard import read
from trustml.benchmarks.setting import blaming
from trustml.contracts import Classifier, Random, Split
from trustml.errors import MethodFailed
from trustml.progress import progress
from trustml.randomness import keyed
from trustml.recipes import Choice

Tampering = Callable[[Tensor, Tensor, Random], Tensor]
SEEN = 512  # pieces of mail that an attacker has
TRIED = 128  # of these on which two ways of tampering are compared


def attackers_mail(bench: Bench) -> Split:
    """Return mail of the attacker's own: training inputs spread over the split, on the device."""
    train = bench.dataset.train
    rows = torch.linspace(0, len(train) - 1, min(SEEN, len(train))).round().long().unique()
    return train.at(rows).to(bench.device)


def prepared(route: Choice, model: Any, bench: Bench, seed: int) -> Tampering:
    """Return the tampering that the attacker prepares by looking at the model.

    Raises:
        NotApplicable: the route does not suit the data or the model.
        MethodFailed: it raised something unforeseen.
    """
    seen = attackers_mail(bench)
    with blaming(f"route {route.plugin.name}"), frozen(model):
        tampering: Tampering = route.plugin.function(
            cast(Classifier, model), seen, random=keyed(seed, seen.ids), **route.options
        )
    return tampering


def posted(route: Choice, tampering: Tampering, mail: Split, bench: Bench, seed: int) -> Tensor:
    """Return the mail (N, *S) tampered with, in the box, on the CPU.

    Raises:
        MethodFailed: the tampering raised, or returned something that is no mail.
    """
    done = []
    with progress(route.plugin.name, len(mail)) as advance:
        for batch in mail.batches(batch_rows(bench)):
            there = batch.to(bench.device)
            with blaming(f"route {route.plugin.name}"):
                x = tampering(there.x.clone(), there.y, keyed(seed, batch.ids))
            done.append(_checked(route, x, batch))
            advance(len(batch))
    return torch.cat(done)


def success_on_own_mail(
    route: Choice, tampering: Tampering, module: Any, bench: Bench, seed: int
) -> float:
    """Return the share of some of the attacker's mail that is misread and passes the safeguard."""
    own = attackers_mail(bench).at(slice(0, TRIED))
    mail = posted(route, tampering, own, bench, seed)
    found = read(module, own, mail, bench.device)
    return float((found["misread"] & found["accepted"]).double().mean())


def _checked(route: Choice, x: object, batch: Split) -> Tensor:
    name = f"route {route.plugin.name}"
    if not isinstance(x, Tensor) or x.shape != batch.x.shape or not x.is_floating_point():
        given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise MethodFailed(f"{name} returned {given}, not mail like {tuple(batch.x.shape)}")
    if not bool(x.isfinite().all()):
        raise MethodFailed(f"{name} returned NaN or infinity")
    return x.detach().to("cpu", torch.float32).clamp(batch.low, batch.high)
