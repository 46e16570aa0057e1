"""Minimum-norm attacks beside adversarial-library's, at the same passes, on two MNIST networks.

    python comparisons/minimum_norm.py WEIGHTS [IMAGES [PASSES [NAME …]]]

WEIGHTS is a checkpoint of trustml's `cnn` that was trained adversarially (that of Wong et al. 2020
fits); the second network is a `cnn` trained as usual here, for two epochs. TRUSTML_DATA says where
MNIST lies. All attack the same images that the network reads rightly, with no more than PASSES
forward passes and PASSES backward passes each. Optimality is the mean of the least known distance
over the found one, 0 where none was found; the least known is of all lines of the norm, so lines
compare within one run only. Times are seconds of the processor. A peer that is not installed is
left out and named. With NAMEs, only attacks whose names hold one.
"""

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import Handed, frozen
from trustml.contracts import Access, Norm
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.recipes import read_recipe
from trustml.registry import get
from trustml.store import trained
from trustml.threats import Lp

ORDER: dict[Norm, float] = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}


@dataclass(frozen=True)
class Bench:
    """What all attack: a network, inputs that it reads rightly, their labels, passes a sample."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    passes: int


@dataclass(frozen=True)
class Line:
    """What one attack found: distances (B,), infinite where nothing; passes a sample; seconds."""

    name: str
    far: Tensor
    forwards: float
    backwards: float
    seconds: float


class Counted(nn.Module):
    """The network, with counts of the rows that went through it forwards and backwards."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap the model."""
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K)."""
        self.forwards += len(x)
        logits = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


Run = Callable[[Bench], tuple[Tensor, float, float]]


def main() -> None:
    """Print a table for each network and norm."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    images, passes = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((2, 100), (3, 200))
    )
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")  # the peers' own
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {passes} passes")
    for name, recipe in (("adversarial", f"cnn:weights={sys.argv[1]}"), ("usual", "cnn:epochs=2")):
        bench = settle(name, recipe, images, passes)
        for norm in ORDER:
            report(bench, norm, sys.argv[4:])


def settle(name: str, recipe: str, images: int, passes: int) -> Bench:
    """Return the bench: the first test images that the network reads rightly."""
    data = get("data", "mnist").function(folder=os.environ.get("TRUSTML_DATA"))
    model = trained(read_recipe(recipe), data, 0, "cpu").module.eval()
    x, y = data.test.x[: 2 * images], data.test.y[: 2 * images]
    with torch.no_grad():
        right = (model(x).argmax(1) == y).nonzero()[:images, 0]
    return Bench(name, model, x[right], y[right], passes)


def report(bench: Bench, norm: Norm, wanted: list[str]) -> None:
    """Run every attack of the norm and print its lines."""
    print(f"\n{bench.name} network, {norm}, {len(bench.x)} images\n")
    print("| attack | optimality | median distance | found | forwards | backwards | seconds |")
    print("|---|---|---|---|---|---|---|")
    lines = []
    for name, run in RUNS[norm]:
        if wanted and not any(part.lower() in name.lower() for part in wanted):
            continue
        try:
            lines.append(measured(name, run, bench, norm))
        except ImportError as missing:
            print(f"| {name} | not installed: {missing.name} | | | | | |")
    if not lines:
        return
    least = torch.stack([line.far for line in lines]).amin(0)
    for line in lines:
        optimality = (least / line.far).nan_to_num(0.0).mean()
        found = line.far.isfinite().double().mean()
        print(
            f"| {line.name} | {optimality:.3f} | {line.far.median():.4g} | {100 * found:.0f} % "
            f"| {line.forwards:.0f} | {line.backwards:.0f} | {line.seconds:.1f} |",
            flush=True,
        )


def measured(name: str, run: Run, bench: Bench, norm: Norm) -> Line:
    """Return what the attack found, judged here: within the box, and misread."""
    torch.manual_seed(0)
    began = time.process_time()
    with frozen(bench.model):
        candidate, forwards, backwards = run(bench)
    seconds = time.process_time() - began
    candidate = candidate.detach().clamp(0, 1)
    with torch.no_grad():
        wrong = bench.model(candidate).argmax(1) != bench.y
    far = distance(candidate, bench.x, norm).masked_fill(~wrong, math.inf)
    return Line(name, far, forwards, backwards, seconds)


def ours(attack: str, norm: Norm, share: float = 1.0, spare: int = 1, **options: Any) -> Run:
    """Return a run of an attack of trustml with `share` of the passes as steps, less `spare`."""

    def run(bench: Bench) -> tuple[Tensor, float, float]:
        plugin, count = get("attack", attack), len(bench.x)
        handed = Handed(bench.model, Access.GRADIENTS, count, block=count)
        steps = max(1, int((bench.passes - spare) * share))
        candidate = plugin.function(
            handed, bench.x, bench.y, Lp(norm, math.inf), random=keyed(0, torch.arange(count)),
            **{"steps": steps, **options},
        )  # fmt: skip
        return candidate, float(handed.forwards.mean()), float(handed.backwards.mean())

    return run


def theirs(attack: str, called: str, /, **options: Any) -> Run:
    """Return a run of an attack of adversarial-library; `called` is its name for steps."""

    def run(bench: Bench) -> tuple[Tensor, float, float]:
        import adv_lib.attacks

        counted = Counted(bench.model)
        given = {called: bench.passes, **options}
        candidate = getattr(adv_lib.attacks, attack)(counted, bench.x, bench.y, **given)
        count = len(bench.x)
        return candidate, counted.forwards / count, counted.backwards / count

    return run


def _both(norm: Norm) -> tuple[tuple[str, Run], ...]:
    """Return the lines that every norm has. L0 spares the passes that put entries back."""
    spare = 22 if norm == "l0" else 1
    dual: Mapping[str, Any] = {} if norm == "l2" else {"norm": ORDER[norm]}
    return (
        ("fmn", ours("fmn", norm, spare=spare)),
        ("adv_lib fmn", theirs("fmn", "steps", norm=ORDER[norm])),
        ("adv_lib fmn, first step 10",
         theirs("fmn", "steps", norm=ORDER[norm], α_init=10.0, γ_init=0.3)),
        ("pdpgd", ours("pdpgd", norm, spare=spare)),
        ("adv_lib pdgd" if norm == "l2" else "adv_lib pdpgd",
         theirs("pdgd" if norm == "l2" else "pdpgd", "num_steps", **dual)),
    )  # fmt: skip


def _augmented(norm: Norm) -> tuple[tuple[str, Run], ...]:
    """Return the lines of ALMA."""
    reach = {"l2": 0.1, "l1": 0.5}[norm]
    return (
        ("alma", ours("alma", norm, spare=9)),
        ("adv_lib alma", theirs("alma", "num_steps", distance=norm, init_lr_distance=reach)),
    )


RUNS: dict[Norm, tuple[tuple[str, Run], ...]] = {
    "linf": (
        *_both("linf"),
        ("deepfool", ours("deepfool", "linf", steps=50)),
        ("adv_lib deepfool", theirs("df", "steps", norm=math.inf, steps=50)),
    ),
    "l2": (
        *_both("l2"),
        ("ddn", ours("ddn", "l2")),
        ("adv_lib ddn", theirs("ddn", "steps", levels=None)),
        ("deepfool", ours("deepfool", "l2", steps=50)),
        ("adv_lib deepfool", theirs("df", "steps", norm=2, steps=50)),
        ("superdeepfool", ours("superdeepfool", "l2", spare=9)),
        ("adv_lib superdeepfool", theirs("sdf", "steps", steps=4, df_steps=5)),
        *_augmented("l2"),
    ),
    "l1": (
        *_both("l1"),
        ("ead, 4 searches", ours("ead", "l1", 0.25, searches=4)),
        *_augmented("l1"),
    ),
    "l0": (
        *_both("l0"),
        ("sigma_zero", ours("sigma_zero", "l0", spare=22)),
        ("adv_lib sigma_zero", theirs("sigma_zero", "num_steps")),
    ),
}


if __name__ == "__main__":
    main()
