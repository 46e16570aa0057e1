"""All attacks that trustml and a peer both have, side by side on four networks, one row a pair.

    python comparisons/catalogue.py --weights WEIGHTS --cifar FOLDER [--images N] [--pairs WORD …] …

WEIGHTS is a checkpoint of trustml's `cnn` for MNIST that was trained adversarially (that of Wong et
al. 2020 fits); TRUSTML_DATA says where MNIST lies. FOLDER holds CIFAR-10 as train.npz (and
test*.npz), of which the last 10 000 training rows are not trained on. The other networks are
trained here by trustml and kept: a usual `cnn` for MNIST, a usual and an adversarially trained one
for CIFAR-10. Without FOLDER only the two for MNIST are attacked.

All attack the same images that the network reads rightly. Rows that pass through the network are
counted there, forwards and backwards: an attack of a fixed ball gets as many steps as the peer's, a
search for the nearest point no more passes than the peer was seen to take. A fixed ball's cell is
the share of images fooled, in %, a search's the median distance, each with its 95 % interval:
trustml's, then the peer's. ▲ stands where trustml's points are nearer by a sign test at 5 % (of a
fixed ball: those of several radii), ▼ where the peer's are. Times are seconds of the processor, one
run after the other; `outside` counts images that left ball or box, in float64.

Optimality is AttackBench's (Cinà et al. 2025): the area above an attack's curve of robust accuracy,
over that above the curve of the nearest points that any attack of the run has found. A fixed ball
is known at its radii alone, so its points count as far as the radius.
"""

import argparse
import logging
import math
import os
import random as python_random
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pairs as catalogue
import torch
from pairs import Bench, Counted, Pair
from torch import Tensor

from trustml.access import Blocks, Handed, frozen
from trustml.benchmarks.blocks import fitting_blocks
from trustml.benchmarks.setting import load_data
from trustml.contracts import Norm
from trustml.errors import UnknownName
from trustml.geometry import distance
from trustml.metrics import median, proportion
from trustml.randomness import keyed
from trustml.recipes import read_recipe
from trustml.registry import get
from trustml.store import trained
from trustml.threats import Lp

PIXEL = 1 / 255
# Radii at which a fair share of the images falls, so that there is something to tell apart.
BUDGETS: dict[str, dict[Norm, float]] = {
    "MNIST, adversarial": {"linf": 0.3, "l2": 2.0, "l1": 12.0, "l0": 20.0},
    "MNIST, usual": {"linf": 0.1, "l2": 1.5, "l1": 10.0, "l0": 12.0},
    "CIFAR-10, adversarial": {"linf": 8 * PIXEL, "l2": 0.5, "l1": 12.0, "l0": 30.0},
    "CIFAR-10, usual": {"linf": 1.5 * PIXEL, "l2": 0.15, "l1": 4.0, "l0": 12.0},
}
# A fixed ball is tried at these shares of the radius.
LEVELS = (0.6, 0.8, 1.0, 1.25, 1.5)
# Distances that differ by less count as equal.
SAME = 0.01
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Shot:
    """What one run gave: candidates, passes a sample forwards and backwards, seconds."""

    found: Tensor
    forwards: float
    backwards: float
    seconds: float


@dataclass(frozen=True)
class Side:
    """What an attack reached: distances (B,), infinite where nothing; share or median as text."""

    far: Tensor
    cell: str
    passes: float
    seconds: float
    outside: int


@dataclass(frozen=True)
class Row:
    """A pair on one network; how often either was nearer."""

    bench: Bench
    pair: Pair
    ours: Side
    theirs: Side
    nearer: int
    farther: int

    @property
    def mark(self) -> str:
        """▲ where ours is nearer beyond chance, ▼ where the peer's is."""
        if sign_test(self.nearer, self.farther) >= 0.05:
            return ""
        return " ▲" if self.nearer > self.farther else " ▼"


def main() -> None:
    """Print a row for each pair, then the optimality of all attacks of each norm."""
    asked = arguments()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")  # the peers' own
    logging.disable(logging.CRITICAL)
    began = time.process_time()
    benches = settled(asked)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {asked.images} images, "
          f"{asked.steps} steps, {asked.queries} queries\n")  # fmt: skip
    print("| trustml | peer | norm | " + " | ".join(bench.name for bench, _ in benches)
          + " | passes | time | outside |")  # fmt: skip
    print("|---" * (6 + len(benches)) + "|")
    rows: list[Row] = []
    for pair in chosen(asked):
        made = []
        for bench, blocks in benches:
            bench = replace(bench, norm=pair.norm, epsilon=BUDGETS[bench.name][pair.norm])
            row = compared(pair, bench, blocks, asked.rounds)
            made.append(row)
        rows += [row for row in made if isinstance(row, Row)]
        print(line(pair, made), flush=True)
    optimality(rows)
    worse = sorted({f"{row.pair.text} ({row.pair.norm}) by {row.pair.peer} {row.pair.theirs} on "
                    f"{row.bench.name}" for row in rows if row.mark == " ▼"})  # fmt: skip
    print(f"\n{len(rows)} comparisons; beaten beyond chance in {len(worse)}:")
    print("\n".join(f"- {text}" for text in worse) or "- none")
    print(f"\nseconds of the processor, in all: {time.process_time() - began:.0f}")


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    known = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known.add_argument("--weights", help="checkpoint of an adversarially trained MNIST cnn")
    known.add_argument("--cifar", help="folder with CIFAR-10 as train.npz")
    known.add_argument("--images", type=int, default=50)
    known.add_argument("--steps", type=int, default=40, help="of gradient attacks")
    known.add_argument("--queries", type=int, default=400, help="of attacks without gradients")
    known.add_argument("--rounds", type=int, default=1, help="repeats, of which the fastest counts")
    known.add_argument("--models", nargs="*", default=[], help="those whose names hold a word")
    known.add_argument("--pairs", nargs="*", default=[], help="likewise, of either side's names")
    known.add_argument("--norms", nargs="*", default=[], help="of linf l2 l1 l0")
    known.add_argument("--peers", nargs="*", default=[], help="likewise, of the libraries")
    known.add_argument("--slow", action="store_true", help="also the pairs that take minutes")
    return known.parse_args()


def chosen(asked: argparse.Namespace) -> Iterator[Pair]:
    """Yield the pairs that were asked for and that this version of trustml has."""
    for pair in catalogue.PAIRS:
        named = f"{pair.text} {pair.theirs}".lower()
        if asked.norms and pair.norm not in asked.norms:
            continue
        if asked.peers and not holds(pair.peer, asked.peers):
            continue
        if asked.pairs and not any(word.lower() in named for word in asked.pairs):
            continue
        if pair.slow and not (asked.slow or asked.pairs):
            continue
        try:
            get("attack", pair.ours)
        except UnknownName:
            continue
        yield pair


def holds(name: str, words: Sequence[str]) -> bool:
    """Return whether the name holds one of the words."""
    return any(word.lower() in name.lower() for word in words)


def settled(asked: argparse.Namespace) -> list[tuple[Bench, Blocks | None]]:
    """Return the benches, and the blocks in which trustml feeds each network."""
    hardened = f"fast_adversarial_training:epsilon={8 * PIXEL}"
    wanted = [("MNIST, adversarial", "mnist", f"cnn:weights={asked.weights}"),
              ("MNIST, usual", "mnist", "cnn:epochs=2")]  # fmt: skip
    if asked.cifar:
        data = f"npz:path={Path(asked.cifar).resolve()},test_tail=10000"
        small = "cnn:channels=[32,64]"
        wanted += [("CIFAR-10, adversarial", data, f"{small},epochs=10,patience=0+{hardened}"),
                   ("CIFAR-10, usual", data, f"{small},epochs=6")]  # fmt: skip
    benches = []
    for name, data, recipe in wanted:
        if asked.models and not holds(name, asked.models):
            continue
        if data == "mnist" and "None" in recipe:
            sys.exit("--weights is missing: a checkpoint of an adversarially trained MNIST cnn")
        loaded = load_data(data, os.environ.get("TRUSTML_DATA"))
        model = trained(read_recipe(recipe), loaded, 0, torch.device("cpu")).module.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)  # peers that ask for their gradients get none
        x, y = loaded.test.x[-4 * asked.images :], loaded.test.y[-4 * asked.images :]
        with torch.no_grad():
            right = (model(x).argmax(1) == y).nonzero()[: asked.images, 0]
        bench = Bench(name, Counted(model).eval(), x[right], y[right], "linf", 0.0,
                      asked.steps, asked.queries)  # fmt: skip
        benches.append((bench, fitting_blocks(model, x)))
    return benches


def compared(pair: Pair, bench: Bench, blocks: Blocks | None, rounds: int) -> Row | str:
    """Return the pair on one network, or why either side did not run."""
    levels = LEVELS if pair.fixed else (math.inf,)
    sides: tuple[list[Shot], list[Shot]] = ([], [])
    for level in levels:
        here = replace(bench, epsilon=bench.epsilon * level)
        ours: list[Shot] = []
        theirs: list[Shot] = []
        for _ in range(rounds):
            try:
                theirs.append(peer_shot(pair, here))
            except ImportError as missing:
                return f"not installed: {missing.name}"
            except Exception as problem:  # a peer's own failure is a result
                return f"failed: {type(problem).__name__} {str(problem)[:60]}"
            try:
                ours.append(own_shot(pair, here, blocks, theirs[-1]))
            except Exception as problem:  # told in the table, and the rest is still run
                return f"ours failed: {type(problem).__name__} {str(problem)[:60]}"
        for kept, shots in zip(sides, (ours, theirs), strict=True):
            kept.append(min(shots, key=lambda shot: shot.seconds))
    try:
        first, second = (side(pair, bench, shots) for shots in sides)
    except Exception as problem:  # a peer may answer with points that nobody can judge
        return f"not to be judged: {type(problem).__name__} {str(problem)[:60]}"
    # inf - inf is no number and counts as equal.
    gap = (first.far - second.far) / torch.minimum(first.far, second.far)
    nearer, farther = int((gap < -SAME).sum()), int((gap > SAME).sum())
    return Row(bench, pair, first, second, nearer, farther)


def peer_shot(pair: Pair, bench: Bench) -> Shot:
    """Run the peer's."""
    torch.manual_seed(0)
    np.random.seed(0)
    python_random.seed(0)
    bench.model.forwards = bench.model.backwards = 0
    count, began = len(bench.x), time.process_time()
    with frozen(bench.model), quiet():
        found = pair.run(replace(bench, x=bench.x.clone(), y=bench.y.clone()))
    seconds = time.process_time() - began
    forwards, backwards = bench.model.forwards / count, bench.model.backwards / count
    return Shot(found.detach().float(), forwards, backwards, seconds)


def own_shot(pair: Pair, bench: Bench, blocks: Blocks | None, seen: Shot) -> Shot:
    """Run ours, with what the peer was seen to take if they are to be equal."""
    options = catalogue.filled(pair.options, bench)
    if pair.effort and not pair.equal:
        options[pair.effort] = getattr(bench, pair.effort)
    elif pair.effort == "queries":
        options["queries"] = max(2, math.floor(seen.forwards))
    elif pair.effort == "steps":
        options["steps"] = affordable(pair, bench, blocks, seen.forwards + seen.backwards)
    return launched(pair, bench, blocks, options)


def affordable(pair: Pair, bench: Bench, blocks: Blocks | None, passes: float) -> int:
    """Return how many steps of ours take no more than `passes`, by two short runs on a few."""
    few = replace(bench, x=bench.x[:8], y=bench.y[:8])
    short, long = 6, 18
    options = catalogue.filled(pair.options, bench)
    spent = []
    for count in (short, long):
        shot = launched(pair, few, blocks, {**options, "steps": count})
        spent.append(shot.forwards + shot.backwards)
    each = max((spent[1] - spent[0]) / (long - short), 1e-9)
    return max(1, math.floor(short + (passes - spent[0]) / each))


def launched(pair: Pair, bench: Bench, blocks: Blocks | None, options: dict[str, object]) -> Shot:
    """Run ours with these options; its own count, for the network is fed in blocks."""
    plugin, count = get("attack", pair.ours), len(bench.x)
    epsilon = bench.epsilon if pair.fixed else math.inf
    # As the peers' generators, ours is seeded before the clock runs.
    random = keyed(0, torch.arange(count))
    began = time.process_time()
    handed = Handed(bench.model.model, plugin.facts["needs"], count, block=blocks)
    with frozen(bench.model):
        found = plugin.function(
            handed, bench.x, bench.y, Lp(bench.norm, epsilon), random=random, **options,
        )  # fmt: skip
    seconds = time.process_time() - began
    forwards, backwards = float(handed.forwards.mean()), float(handed.backwards.mean())
    return Shot(found, forwards, backwards, seconds)


def side(pair: Pair, bench: Bench, shots: Sequence[Shot]) -> Side:
    """Return what the shots reached, one for each radius, judged here."""
    far = torch.full((len(bench.x),), math.inf, dtype=torch.float64)
    outside, cell = 0, ""
    for level, shot in zip(LEVELS if pair.fixed else (math.inf,), shots, strict=True):
        radius = bench.epsilon * level
        boxed = shot.found.clamp(0, 1)
        with torch.no_grad():
            wrong = bench.model.model(boxed).argmax(1) != bench.y
        distances = distance(boxed, bench.x, bench.norm)
        wrong &= distances <= radius + TOLERANCE
        left = (shot.found != boxed).flatten(1).any(1) | (distances > radius)
        outside += int(left.sum())
        reached = torch.full_like(far, radius) if pair.fixed else distances
        far = torch.minimum(far, reached.masked_fill(~wrong, math.inf))
        if level == 1.0:
            score = proportion(int(wrong.sum()), len(wrong))
            cell = f"{100 * score.value:.0f} ({100 * score.low:.0f}–{100 * score.high:.0f})"
    if not pair.fixed:
        score = median(far, "higher", low=0.0)
        cell = f"{score.value:.3g} ({score.low:.3g}–{score.high:.3g})"
    nominal = shots[LEVELS.index(1.0) if pair.fixed else 0]
    seconds = sum(shot.seconds for shot in shots)
    return Side(far, cell, nominal.forwards + nominal.backwards, seconds, outside)


def line(pair: Pair, made: Sequence[Row | str]) -> str:
    """Return the pair's row of the table."""
    cells = [row if isinstance(row, str) else f"{row.ours.cell} / {row.theirs.cell}{row.mark}"
             for row in made]  # fmt: skip
    rows = [row for row in made if isinstance(row, Row)]
    rest = ["", "", ""]
    if rows:
        passes = [(row.ours.passes, row.theirs.passes) for row in rows]
        both = [statistics.mean(one) for one in zip(*passes, strict=True)]
        ratio = sum(row.ours.seconds for row in rows) / sum(row.theirs.seconds for row in rows)
        rest = [f"{both[0]:.0f} / {both[1]:.0f}", f"{ratio:.2f}",
                f"{sum(row.ours.outside for row in rows)} / "
                f"{sum(row.theirs.outside for row in rows)}"]  # fmt: skip
    return f"| {' | '.join((pair.text, f'{pair.peer} {pair.theirs}', pair.norm, *cells, *rest))} |"


def optimality(rows: Sequence[Row]) -> None:
    """Print AttackBench's measure of every attack, a table a norm, the best first."""
    names = list(dict.fromkeys(row.bench.name for row in rows))
    for norm in dict.fromkeys(row.pair.norm for row in rows):
        reached: dict[str, dict[str, Tensor]] = {}
        for row in (row for row in rows if row.pair.norm == norm):
            fixed = ", a fixed ball" if row.pair.fixed else ""
            for label, part in ((f"trustml {row.pair.text}", row.ours),
                                (f"{row.pair.peer} {row.pair.theirs}", row.theirs)):  # fmt: skip
                known = reached.setdefault(label + fixed, {})
                known.setdefault(row.bench.name, part.far)
        best = {name: torch.stack([far[name] for far in reached.values() if name in far]).amin(0)
                for name in names if any(name in far for far in reached.values())}  # fmt: skip
        table = {label: {name: optimal(far[name], best[name]) for name in far}
                 for label, far in reached.items()}  # fmt: skip
        print(f"\n| optimality, {norm} | {' | '.join(best)} |\n|---{'|---' * len(best)}|")
        for label in sorted(table, key=lambda label: -statistics.mean(table[label].values())):
            cells = (f"{table[label][name]:.3f}" if name in table[label] else "" for name in best)
            print(f"| {label} | {' | '.join(cells)} |")


def optimal(far: Tensor, best: Tensor) -> float:
    """Return the area above the curve of distances (B,), over that of the least known (B,)."""
    fallen = best.isfinite()
    if not fallen.any():
        return math.nan
    most = best[fallen].max()
    above = (most - torch.minimum(far, most)).clamp_min(0).sum()
    return float(above / (most - torch.minimum(best, most)).sum())


def sign_test(nearer: int, farther: int) -> float:
    """Return the two-sided p of as many signs, if either were as likely."""
    count = nearer + farther
    tail = sum(math.comb(count, k) for k in range(min(nearer, farther) + 1))
    return min(1.0, 2 * tail / 2**count)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what a peer prints off the table."""
    kept = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stdout, sys.stderr = kept


if __name__ == "__main__":
    main()
