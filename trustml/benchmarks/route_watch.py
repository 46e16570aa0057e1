"""A monitor over streams of mail: how it runs on honest ones, and on ones that are tampered with.

A stream is `LENGTH` items drawn from the mail at hand, with replacement, and tampered with from the
first one on. Honest streams come from the half of the validation split that the monitor did not
learn from; a false alarm is an honest stream in which there is any alarm.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.plan import Case
from trustml.benchmarks.route_guard import named, read
from trustml.benchmarks.route_mail import Tampering, attackers_mail, posted
from trustml.benchmarks.route_scores import before_alarm, first_alarm
from trustml.benchmarks.setting import blaming
from trustml.conformal import conformal_quantile
from trustml.contracts import Classifier, Split
from trustml.errors import MethodFailed
from trustml.progress import progress
from trustml.randomness import keyed
from trustml.recipes import Choice

LENGTH = 100
HONEST, STREAMS, OWN = 199, 100, 20  # honest ones, tampered ones, the attacker's rehearsals
WATCHES = 10  # monitors that differ in what they draw
STRENGTHS = (1.0, 0.5, 0.25, 0.125)  # to which an attacker who knows the monitor turns down
Scan = Callable[[Tensor], Tensor]
Watch = Callable[[Tensor, Scan], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A route, done at some strength, under the eyes of a monitor."""

    route: Choice
    tampering: Tampering
    watches: tuple[Watch, ...]
    bench: Bench
    seed: int
    strength: float = 1.0

    def mail(self, split: Split) -> Tensor:
        """Return the tampered mail (N, *S)."""
        x = posted(self.route, self.tampering, split, self.bench, self.seed)
        return torch.lerp(split.x, x, self.strength).clamp(split.low, split.high)

    def suspicion(self, split: Split, tampered: Tensor, rows: Tensor, name: str) -> Tensor:
        """Return the running suspicion (T, L) over streams of the mail."""
        scanner = self.route.plugin.facts["via"] == "scanner"
        items = split.x if scanner else tampered
        return running(self, items, rows, self._scan if scanner else _nothing_done, name)

    def _scan(self, x: Tensor) -> Tensor:
        """Return what the scanner, as it is now, makes of any items; it knows no labels."""
        numbers = keyed(self.seed, torch.arange(len(x)))
        there = x.to(self.bench.device)
        seen = self.tampering(there.clone(), torch.zeros(len(x), dtype=torch.long), numbers)
        return torch.lerp(there, seen.to(there), self.strength).to(x)


def watched(
    case: Case, bench: Bench, route: Choice, monitor: Choice, tampering: Tampering
) -> tuple[dict[str, Tensor], list[str]]:
    """Return what a case keeps of streams under watch, and how the attacker who knows it did.

    Raises:
        NotApplicable: the monitor does not suit the data.
        MethodFailed: it raised, or gave something other than one number an item.
    """
    held, split = bench.dataset.validation, bench.setting.split
    middle = len(held) // 2
    learnt, honest = held.at(slice(0, middle)), held.at(slice(middle, None))
    name = f"safeguard {monitor.plugin.name}"
    module = cast(Classifier, bench.setting.module)
    with blaming(name), frozen(module):
        watches = tuple(
            monitor.plugin.function(
                module, learnt.to(bench.device), random=keyed(case.seed, learnt.ids).fold(number),
                **monitor.options,
            )
            for number in range(WATCHES)
        )  # fmt: skip
    post = Watched(route, tampering, watches, bench, case.seed)
    draw = torch.Generator().manual_seed(case.seed)
    calm = running(post, honest.x, _streams(honest, HONEST, draw), _nothing_done, f"{name} honest")
    peaks = calm.amax(1)
    strength = _turned_down(post, peaks, draw)
    rows = _streams(split, STREAMS, draw)
    kept = _kept(post, split, rows)
    found = {"clean: peaks": peaks, **named(kept, "static")}
    if strength == 1:
        again = {key: tensor.clone() for key, tensor in kept.items()}
        note = "adaptive: turned down it gets no more past the monitor, so it is not"
        return found | named(again, "adaptive"), [note]
    found |= named(_kept(replace(post, strength=strength), split, rows), "adaptive")
    return found, [f"adaptive: turned down to {strength:g} of its strength, on mail of its own"]


def _kept(post: Watched, split: Split, rows: Tensor) -> dict[str, Tensor]:
    """Return the tampered mail, what of it is misread, and the suspicion over its streams."""
    x = post.mail(split)
    misread = read(post.bench.setting.module, split, x, post.bench.device)["misread"]
    seen = post.suspicion(split, x, rows, f"{post.route.plugin.name} under watch")
    return {"inputs": x, "misread": misread, "rows": rows.clone(), "suspicion": seen}


def running(post: Watched, items: Tensor, rows: Tensor, scan: Scan, name: str) -> Tensor:
    """Return the suspicion (T, L) of each stream of items, by one monitor after another.

    Raises:
        MethodFailed: a monitor raised, or gave something other than one finite number an item.
    """
    found = []
    with progress(name, len(rows)) as advance:
        for number, of in enumerate(rows):
            with blaming(name), torch.no_grad():
                one = post.watches[number % len(post.watches)](
                    items[of].to(post.bench.device), scan
                )
            if not isinstance(one, Tensor) or one.shape != of.shape or bool(one.isnan().any()):
                raise MethodFailed(f"{name} did not return one number for each of {len(of)} items")
            found.append(one.detach().double().cpu())
            advance(1)
    return torch.stack(found)


def _turned_down(post: Watched, peaks: Tensor, draw: torch.Generator) -> float:
    """Return the strength that missorts most of the attacker's own mail before the alarm."""
    own = attackers_mail(post.bench).to("cpu")
    threshold = conformal_quantile(peaks, post.bench.plan.false_alarms)
    rows = _streams(own, OWN, draw)
    best, chosen = -1.0, 1.0
    for strength in STRENGTHS:
        at = replace(post, strength=strength)
        x = at.mail(own)
        misread = read(post.bench.setting.module, own, x, post.bench.device)["misread"].bool()
        alarm = first_alarm(at.suspicion(own, x, rows, "rehearsal"), threshold)
        everything = torch.ones_like(misread)
        won = before_alarm(misread[rows], everything[rows], alarm).value
        if won > best:
            best, chosen = won, strength
    return chosen


def _streams(split: Split, count: int, draw: torch.Generator) -> Tensor:
    return torch.randint(len(split), (count, LENGTH), generator=draw)


def _nothing_done(x: Tensor) -> Tensor:
    return x
