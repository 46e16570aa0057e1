"""Attacks beside their peers, interleaved in one run, on MNIST and on an MLP.

    python comparisons/attacks.py WEIGHTS [--images N] [--rounds N] [--sections abcdef] …

WEIGHTS is a checkpoint of trustml's `cnn` (that of Wong et al. 2020 fits); TRUSTML_DATA says where
MNIST lies, and `usual` in its place is a `cnn` that trustml trains for 3 epochs. Sections: (a) Linf
PGD of 40 steps, (b) what the loop costs, (c) HopSkipJump, (d) whole ensembles, (e) the same stage
by stage, each sample's verdict beside that of the reference AutoAttack, (f) what one pass costs.

All get the same model, inputs, budget, steps and threads; the model reads each candidate again in
float32, and the ball is checked in float64. Times are seconds of the processor over all threads, so
that others on the machine do not count; peak memory is that of torch's tensors. A peer that is not
installed is left out and named.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import black_box
import torch
from torch import Tensor, nn

from trustml.access import Blocks, Handed, frozen
from trustml.attacks.apgd import apgd
from trustml.attacks.apgd_targeted import apgd_targeted
from trustml.attacks.autoattack import autoattack
from trustml.attacks.fab import fab
from trustml.attacks.hop_skip_jump import hop_skip_jump
from trustml.attacks.pgd import pgd
from trustml.attacks.square import square
from trustml.attacks.strongest import strongest
from trustml.benchmarks.blocks import fitting_blocks
from trustml.benchmarks.setting import load_data
from trustml.contracts import Access
from trustml.convolutions import QuickGradients
from trustml.geometry import distance
from trustml.precision import Reduced, fast_dtype
from trustml.randomness import keyed
from trustml.recipes import read_recipe
from trustml.store import trained
from trustml.threats import Lp

PIXELS, HIDDEN, CLASSES = 784, 256, 10


@dataclass(frozen=True)
class Bench:
    """What all attack, and how: an Linf budget, steps of one length, samples in one batch."""

    model: nn.Module
    x: Tensor
    y: Tensor
    epsilon: float = 0.3
    steps: int = 40
    step: float = 0.01
    batch: int = 256
    blocks: Blocks | None = None  # what trustml found to give the same bits


Run = Callable[[Bench, int], Tensor]


def bare(bench: Bench, seed: int) -> Tensor:
    """Return the last points of the plain loop that tutorials show, in float32."""
    torch.manual_seed(seed)
    parts = zip(bench.x.split(bench.batch), bench.y.split(bench.batch), strict=True)
    return torch.cat([climbed(bench, x, y, 2 * torch.rand_like(x) - 1) for x, y in parts])


def bare_kept(bench: Bench, seed: int) -> Tensor:
    """Return what the plain loop finds from trustml's starts: the first point that wins."""
    found = []
    for rows in torch.arange(len(bench.x)).split(bench.batch):
        x, y = bench.x[rows], bench.y[rows]
        even = 2 * keyed(seed, rows).fold(0).uniform(tuple(x.shape[1:]), "ball") - 1
        points: list[Tensor] = []
        points.append(climbed(bench, x, y, even, points.append))
        with torch.no_grad():
            won = torch.stack([bench.model(point).argmax(1) != y for point in points])
        # The index of the first that wins; of none, the last point.
        which = torch.cat([won[:-1], torch.ones_like(won[:1])]).int().argmax(0)
        found.append(torch.stack(points)[which, torch.arange(len(x))])
    return torch.cat(found)


def climbed(
    bench: Bench, x: Tensor, y: Tensor, start: Tensor, keep: Callable[[Tensor], None] | None = None
) -> Tensor:
    """Return the last point of the plain loop; `keep` is given all those before it."""
    low, high = (x - bench.epsilon).clamp_min(0), (x + bench.epsilon).clamp_max(1)
    point = (x + bench.epsilon * start).clamp(0, 1)
    for _ in range(bench.steps):
        point.requires_grad_()
        loss = nn.functional.cross_entropy(bench.model(point), y, reduction="sum")
        (slope,) = torch.autograd.grad(loss, point)
        point = point.detach()
        if keep:
            keep(point)
        point = (point + bench.step * slope.sign()).clamp(low, high)
    return point


def ours(attack: Callable[..., Tensor], reduced: bool = False, **options: object) -> Run:
    """Return a run of an attack of trustml; `reduced`: what low precision leaves, float32 tries."""

    def run(bench: Bench, seed: int) -> Tensor:
        given = {"steps": bench.steps, "step": bench.step} if attack is pgd else {}
        parts = []
        for rows in torch.arange(len(bench.x)).split(bench.batch):
            here = slice(int(rows[0]), int(rows[-1]) + 1)
            x, y, random = bench.x[here], bench.y[here], keyed(seed, rows)
            threat, found = Lp("linf", bench.epsilon), x
            left = torch.arange(len(rows))
            for model in (Reduced(bench.model, torch.bfloat16), bench.model)[not reduced :]:
                if len(left):
                    blocks = bench.blocks if model is bench.model else None
                    handed = Handed(model, Access.GRADIENTS, len(left), block=blocks)
                    some = slice(None) if len(left) == len(rows) else left
                    found = found.index_copy(0, left, attack(
                        handed, x[some], y[some], threat, random=random.at(left), **given, **options
                    ))  # fmt: skip
                    with torch.no_grad():
                        left = left[bench.model(found[left]).argmax(1) == y[left]]
            parts.append(found)
        return torch.cat(parts)

    return run


def foolbox_pgd(bench: Bench, seed: int) -> Tensor:
    """Run foolbox's."""
    import foolbox

    torch.manual_seed(seed)
    model = foolbox.PyTorchModel(bench.model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(steps=bench.steps, abs_stepsize=bench.step)
    parts = zip(bench.x.split(bench.batch), bench.y.split(bench.batch), strict=True)
    return torch.cat([attack(model, x, y, epsilons=bench.epsilon)[1] for x, y in parts])


def torchattacks_pgd(bench: Bench, seed: int) -> Tensor:
    """Run torchattacks'."""
    import torchattacks

    torch.manual_seed(seed)
    attack = torchattacks.PGD(bench.model, bench.epsilon, bench.step, bench.steps)
    parts = zip(bench.x.split(bench.batch), bench.y.split(bench.batch), strict=True)
    return torch.cat([attack(x, y) for x, y in parts])


def art_pgd(bench: Bench, seed: int) -> Tensor:
    """Run ART's."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    black_box.np.random.seed(seed)
    shape, loss = tuple(bench.x.shape[1:]), nn.CrossEntropyLoss()
    model = PyTorchClassifier(
        bench.model, loss, shape, CLASSES, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        model, eps=bench.epsilon, eps_step=bench.step, max_iter=bench.steps, num_random_init=1,
        batch_size=bench.batch, verbose=False,
    )  # fmt: skip
    return torch.from_numpy(attack.generate(bench.x.numpy(), bench.y.numpy()))


def adv_lib_pgd(bench: Bench, seed: int) -> Tensor:
    """Run adversarial-library's."""
    from adv_lib.attacks import pgd_linf

    torch.manual_seed(seed)
    parts = zip(bench.x.split(bench.batch), bench.y.split(bench.batch), strict=True)
    return torch.cat([
        pgd_linf(bench.model, x, y, bench.epsilon, steps=bench.steps, absolute_step_size=bench.step)
        for x, y in parts
    ])  # fmt: skip


def reference(bench: Bench, seed: int, stages: tuple[str, ...] = ()) -> Tensor:
    """Run the reference AutoAttack: the standard version, or the named stages of it."""
    from pyautoattack import AutoAttack

    how = {"version": "custom", "attacks": list(stages)} if stages else {"version": "standard"}
    suite = AutoAttack(bench.model, eps=bench.epsilon, seed=seed, **how)
    # A custom version leaves the restarts of the "plus" one; these are the standard's.
    suite.apgd.n_restarts = suite.fab.n_restarts = suite.apgd_targeted.n_restarts = 1
    suite.fab.n_target_classes = suite.apgd_targeted.n_target_classes = 9
    return suite.run_standard_evaluation(bench.x, bench.y, batch_size=bench.batch)[0]


LOOPS: dict[str, Run] = {
    "bare loop": bare,
    "bare loop, trustml's starts, any point": bare_kept,
    "trustml pgd": ours(pgd),
    "trustml pgd, bfloat16 first": ours(pgd, reduced=True),
    "trustml apgd:steps=10,loss=margin": ours(apgd, steps=10, loss="margin"),
    "trustml strongest": ours(strongest),
    "foolbox": foolbox_pgd,
    "torchattacks": torchattacks_pgd,
    "ART": art_pgd,
    "adversarial-library": adv_lib_pgd,
}
ENSEMBLES: dict[str, Run] = {
    "reference AutoAttack": reference,
    "trustml autoattack": ours(autoattack),
    "trustml strongest": ours(strongest),
}
STAGES: dict[str, Run] = {
    "apgd-ce": ours(apgd),
    "apgd-t": ours(apgd_targeted),
    "fab-t": ours(fab, targets=9, stop_inside=True),
    "square": ours(square),
}


def main() -> None:
    """Print the sections that were asked for."""
    known = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known.add_argument("weights")
    known.add_argument("--images", type=int, default=1000)
    known.add_argument("--rounds", type=int, default=4, help="repeats of (a) and (b)")
    known.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    known.add_argument("--sections", default="abcdef")
    known.add_argument(
        "--runs", default="", help="only those of (a), (b) and (d) that hold one of these words"
    )
    known.add_argument("--hop-images", type=int, default=200)
    known.add_argument("--hop-queries", type=int, default=2000)
    known.add_argument("--ensemble-images", type=int, default=1000)
    asked = known.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")  # the peers' own
    weights = usual_network() if asked.weights == "usual" else asked.weights
    settled = black_box.settle(weights, max(asked.images, asked.ensemble_images), 1)
    for runs in (LOOPS, ENSEMBLES):
        keep_only(runs, asked.runs.split(","))
    whole = fitted(Bench(settled.model.model.eval(), settled.x, settled.y))
    print(f"torch {torch.__version__}, {asked.threads} threads, {len(whole.x)} images read rightly")
    sections = {
        "a": lambda: strength(first(whole, asked.images), asked),
        "b": lambda: loop_cost(asked.rounds),
        "c": lambda: hop_skip(weights, asked.hop_images, asked.hop_queries),
        "d": lambda: ensembles(first(whole, asked.ensemble_images)),
        "e": lambda: by_stages(first(whole, asked.ensemble_images)),
        "f": lambda: passes(first(whole, 256)),
    }
    for name, section in sections.items():
        if name in asked.sections:
            section()


def keep_only(runs: dict[str, Run], words: list[str]) -> None:
    """Leave the runs whose names hold one of the words, and the first, which measures the rest."""
    for name in list(runs)[1:]:
        if not any(word in name for word in words):
            del runs[name]


def usual_network() -> str:
    """Return the file of a `cnn` trained on MNIST as usual for 3 epochs; kept with the models."""
    dataset = load_data("mnist", None)
    known = trained(read_recipe("cnn:epochs=3"), dataset, 0, torch.device("cpu"))
    path = Path(tempfile.gettempdir()) / f"usual-{known.weights_hash[:16]}.pt"
    torch.save(known.module.state_dict(), path)
    return str(path)


def first(bench: Bench, images: int) -> Bench:
    """Return the bench on its first inputs."""
    return replace(bench, x=bench.x[:images], y=bench.y[:images])


def fitted(bench: Bench) -> Bench:
    """Return the bench with the block sizes that a run of trustml finds once for each model."""
    return replace(bench, blocks=fitting_blocks(bench.model, bench.x))


def strength(bench: Bench, asked: argparse.Namespace) -> None:
    """Print (a): robust accuracy, time, memory and violations of PGD with the same steps."""
    print(f"\n(a) Linf {bench.epsilon}, PGD-{bench.steps}, {len(bench.x)} images\n")
    print("| attack | robust % of each round | time / bare loop | peak MiB | outside the ball |")
    print("|---|---|---|---|---|")
    rows = measured(LOOPS, bench, asked.rounds)
    for name, (seconds, candidates) in rows.items():
        robust = [f"{100 * (~wrong(bench, found)).double().mean():.1f}" for found in candidates]
        outside = (distance(candidates[0], bench.x, "linf") > bench.epsilon).sum()
        print(f"| {name} | {' '.join(robust)} | {_ratio(rows, seconds)} | "
              f"{_memory(name, bench)} | {int(outside)} |", flush=True)  # fmt: skip


def loop_cost(rounds: int) -> None:
    """Print (b): time over the bare loop on an MLP where no sample falls, so that none leaves."""
    print(f"\n(b) PGD-40 on an MLP of {PIXELS}-{HIDDEN}-{CLASSES}, nobody is fooled\n")
    print("| attack | batch | time / bare loop | seconds |\n|---|---|---|---|")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, HIDDEN), nn.ReLU(),
                          nn.Linear(HIDDEN, CLASSES)).eval()  # fmt: skip
    loops = {name: run for name, run in LOOPS.items() if "strongest" not in name}
    for batch in (32, 512):
        x = torch.rand(batch, 1, 28, 28)
        bench = fitted(Bench(model, x, model(x).argmax(1), epsilon=1e-6, step=1e-7, batch=batch))
        rows = measured(loops, bench, 5 * rounds)
        for name, (seconds, _) in rows.items():
            ratio = _ratio(rows, seconds)
            print(f"| {name} | {batch} | {ratio} | {min(seconds):.4f} |", flush=True)


def hop_skip(weights: str, images: int, queries: int) -> None:
    """Print (c): ART's HopSkipJump, and ours with fewer and fewer queries."""
    bench = black_box.settle(weights, images, queries)
    print(f"\n(c) HopSkipJump, {len(bench.x)} images; seconds of each over ART's\n")
    print("| attack | norm | median distance | queries | seconds | time / ART |")
    print("|---|---|---|---|---|---|")
    for norm, order in (("l2", 2), ("linf", math.inf)):
        runs = [("ART", queries, black_box.art_hop_skip_jump(order))]
        for share in (1, 2, 4, 5, 8, 16):
            few = replace(bench, queries=queries // share)
            run = black_box.ours(hop_skip_jump, norm, math.inf)
            runs.append(("trustml", few.queries, run))
        unit = math.nan
        for name, allowed, run in runs:
            began = time.process_time()
            bench.model.rows = 0
            try:
                found, asked = run(replace(bench, queries=allowed), 0)
            except ImportError as missing:
                print(f"| {name} | {norm} | not installed: {missing.name} | | | |")
                continue
            seconds = time.process_time() - began
            unit = seconds if name == "ART" else unit
            with torch.no_grad():
                fooled = bench.model(found).argmax(1) != bench.y
            far = distance(found, bench.x, norm).masked_fill(~fooled, math.inf).median()
            print(f"| {name} | {norm} | {far:.4f} | {asked:.0f} | {seconds:.2f} | "
                  f"{seconds / unit:.4f} |", flush=True)  # fmt: skip


def ensembles(bench: Bench) -> None:
    """Print (d): whole ensembles, and the verdicts of each stage beside the reference's."""
    print(f"\n(d) ensembles, Linf {bench.epsilon}, {len(bench.x)} images, one seed\n")
    print("| ensemble | robust % | seconds | time / reference | outside the ball |")
    print("|---|---|---|---|---|")
    rows = measured(ENSEMBLES, bench, 1)
    for name, (seconds, (found,)) in rows.items():
        robust = 100 * (~wrong(bench, found)).double().mean()
        unit = rows.get("reference AutoAttack")
        over = seconds[0] / unit[0][0] if unit else math.nan
        outside = int((distance(found, bench.x, "linf") > bench.epsilon).sum())
        print(f"| {name} | {robust:.1f} | {seconds[0]:.1f} | {over:.3f} | {outside} |", flush=True)


def by_stages(bench: Bench) -> None:
    """Print (e): the verdicts of each stage of AutoAttack, ours beside the reference's."""
    print(
        "\n| after | reference robust | ours robust | only the reference fools | only ours does |"
    )
    print("|---|---|---|---|---|")
    left = [torch.ones(len(bench.x), dtype=torch.bool) for _ in range(2)]
    for number, (name, run) in enumerate(STAGES.items()):
        for side in range(2):
            rest = left[side].nonzero()[:, 0]
            if len(rest):
                part = replace(bench, x=bench.x[rest], y=bench.y[rest])
                found = run(part, number) if side else reference(part, 0, (name,))
                left[side] = left[side].index_fill(0, rest[wrong(part, found)], False)
        theirs, mine = left
        print(f"| {name} | {int(theirs.sum())} | {int(mine.sum())} | "
              f"{_rows(mine & ~theirs)} | {_rows(theirs & ~mine)} |", flush=True)  # fmt: skip


def passes(bench: Bench) -> None:
    """Print (f): microseconds a sample of a pass forward and back, with either gradient."""
    print(f"\n(f) one pass of {len(bench.x)} rows, forward and back; the least of 40\n")
    print("| gradient of the first convolution | microseconds a sample |\n|---|---|")
    contexts = {"the library's": nullcontext, "trustml's": QuickGradients}
    least = dict.fromkeys(contexts, math.inf)
    with frozen(bench.model):
        for _ in range(40):
            for name, context in contexts.items():
                began = time.process_time()
                with context():
                    x = bench.x.clone().requires_grad_()
                    loss = nn.functional.cross_entropy(bench.model(x), bench.y, reduction="sum")
                    torch.autograd.grad(loss, x)
                least[name] = min(least[name], time.process_time() - began)
    for name, seconds in least.items():
        print(f"| {name} | {1e6 * seconds / len(bench.x):.0f} |", flush=True)


def measured(
    runs: dict[str, Run], bench: Bench, rounds: int
) -> dict[str, tuple[list[float], list[Tensor]]]:
    """Return seconds and candidates of each run and round, the runs taking turns."""
    rows: dict[str, tuple[list[float], list[Tensor]]] = {}
    warm = first(replace(bench, steps=1), 2)
    for seed in range(-1, rounds):
        for name, run in runs.items():
            if name == "trustml pgd, bfloat16 first" and _has_no_fast_precision():
                continue
            try:
                with frozen(bench.model):
                    began = time.process_time()
                    found = run(warm if seed < 0 else bench, max(seed, 0))
                    seconds = time.process_time() - began
            except ImportError as missing:
                if seed < 0:
                    print(f"| {name} | not installed: {missing.name} |", flush=True)
                continue
            if seed >= 0:
                seen = rows.setdefault(name, ([], []))
                seen[0].append(seconds)
                seen[1].append(found)
    return rows


def wrong(bench: Bench, candidate: Tensor) -> Tensor:
    """Return (B,) whether the model misreads the candidates in float32."""
    with torch.no_grad():
        return bench.model(candidate).argmax(1) != bench.y


def peak_memory(run: Run, bench: Bench) -> float:
    """Return the MiB of tensors alive at once in a walk of 6 steps, as torch's profiler counts."""
    from torch.profiler import ProfilerActivity, profile

    bench = replace(bench, steps=6)
    run(first(replace(bench, steps=1), 2), 0)  # what is made once for all is made before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        run(bench, 0)
    events = [e for e in told.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events)) / 2**20


def _memory(name: str, bench: Bench) -> str:
    """Return the peak memory on one batch as a cell."""
    try:
        with frozen(bench.model):
            return f"{peak_memory(LOOPS[name], first(bench, bench.batch)):.1f}"
    except ImportError:
        return ""


def _ratio(rows: dict[str, tuple[list[float], list[Tensor]]], seconds: list[float]) -> str:
    """Return the median of the rounds' ratios to the bare loop, with the least and the most."""
    ratios = [a / b for a, b in zip(seconds, rows["bare loop"][0], strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _has_no_fast_precision() -> bool:
    return fast_dtype(torch.device("cpu")) == torch.float32


def _rows(mask: Tensor) -> str:
    return " ".join(str(row) for row in mask.nonzero()[:, 0].tolist()) or "none"


if __name__ == "__main__":
    main()
