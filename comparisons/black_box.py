"""Attacks without gradients beside their peers, interleaved in one run, on MNIST.

    python comparisons/black_box.py WEIGHTS [IMAGES [QUERIES [ROUNDS [NAME …]]]]

WEIGHTS is a checkpoint of trustml's `cnn` (that of Wong et al. 2020 fits); TRUSTML_DATA says where
MNIST lies. All attack the same images that the model reads rightly. Queries are counted at the
model, a row is one; times are seconds of the processor, so that others on the machine do not count.
A peer that is not installed is left out and named. With NAMEs, only attacks whose names hold one.
"""

import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.attacks.boundary import boundary
from trustml.attacks.hop_skip_jump import hop_skip_jump
from trustml.attacks.rays import rays
from trustml.attacks.square import square
from trustml.contracts import Access, Norm
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.recipes import read_recipe
from trustml.registry import get
from trustml.store import trained
from trustml.threats import Lp

EPSILON = 0.3


class Counted(nn.Module):
    """The model, with a count of the rows that it was asked about."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap the model."""
        super().__init__()
        self.model, self.rows = model, 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K)."""
        self.rows += len(x)
        return self.model(x.float())  # ART sends float64


@dataclass(frozen=True)
class Bench:
    """What all attack: the model, inputs that it reads rightly, their labels, queries a sample."""

    model: Counted
    x: Tensor
    y: Tensor
    queries: int


Run = Callable[[Bench, int], tuple[Tensor, float]]


def main() -> None:
    """Print the table."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    images, queries, rounds = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((2, 200), (3, 2000), (4, 1))
    )
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")  # the peers' own
    bench = settle(sys.argv[1], images, queries)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(bench.x)} images")
    print("\n| attack | norm | fooled within | median distance | queries | seconds |")
    print("|---|---|---|---|---|---|")
    for seed in range(rounds):
        for name, norm, run in RUNS:
            if sys.argv[5:] and not any(part.lower() in name.lower() for part in sys.argv[5:]):
                continue
            try:
                compare(name, norm, run, bench, seed)
            except ImportError as missing:
                print(f"| {name} | {norm} | not installed: {missing.name} | | | |", flush=True)


def settle(weights: str, images: int, queries: int) -> Bench:
    """Return the bench: the first test images that the model reads rightly."""
    data = get("data", "mnist").function(folder=os.environ.get("TRUSTML_DATA"))
    model = trained(read_recipe(f"cnn:weights={weights}"), data, 0, "cpu").module
    x, y = data.test.x[:images], data.test.y[:images]
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return Bench(Counted(model).eval(), x[right], y[right], queries)


def compare(name: str, norm: Norm, run: Run, bench: Bench, seed: int) -> None:
    """Run one attack and print its line."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    bench.model.rows = 0
    began = time.process_time()
    candidate, queries = run(bench, seed)
    seconds = time.process_time() - began
    with torch.no_grad():
        wrong = bench.model(candidate).argmax(1) != bench.y
    far = distance(candidate, bench.x, norm).masked_fill(~wrong, math.inf)
    within = (far <= EPSILON + 1e-6).double().mean() if norm == "linf" else wrong.double().mean()
    print(
        f"| {name} | {norm} | {100 * within:.1f} % | {far.median():.4f} | {queries:.0f} "
        f"| {seconds:.1f} |",
        flush=True,
    )


def ours(attack: Callable[..., Tensor], norm: Norm, epsilon: float, **options: object) -> Run:
    """Return a run of an attack of trustml; its own count, for the model is fed in fixed blocks."""

    def run(bench: Bench, seed: int) -> tuple[Tensor, float]:
        access = get("attack", attack.__name__).facts["needs"]
        handed = Handed(bench.model, access, len(bench.x), budget=bench.queries)
        random = keyed(seed, torch.arange(len(bench.x)))
        given = {"queries": bench.queries, **options}
        threat = Lp(norm, epsilon)
        candidate = attack(handed, bench.x, bench.y, threat, random=random, **given)
        return candidate, float(handed.forwards.mean())

    assert get("attack", attack.__name__).facts["needs"] <= Access.LOGITS
    return run


def art_hop_skip_jump(norm: float) -> Run:
    """Return a run of ART's, with as many rounds as the queries last for."""

    def run(bench: Bench, seed: int) -> tuple[Tensor, float]:
        from art.attacks.evasion import HopSkipJump
        from art.estimators.classification import PyTorchClassifier

        shape, loss = tuple(bench.x.shape[1:]), nn.CrossEntropyLoss()
        model = PyTorchClassifier(bench.model, loss, shape, 10, clip_values=(0.0, 1.0))
        rounds = 1
        # Its round t reads 100 √t labels, and about 15 more to find the border again.
        while sum(100 * math.sqrt(t) + 15 for t in range(1, rounds + 2)) < bench.queries:
            rounds += 1
        attack = HopSkipJump(model, norm=norm, max_iter=rounds, batch_size=256, verbose=False)
        found = attack.generate(bench.x.numpy(), bench.y.numpy())
        return torch.from_numpy(found), bench.model.rows / len(bench.x)

    return run


def foolbox_boundary(bench: Bench, seed: int) -> tuple[Tensor, float]:
    """Run foolbox's boundary attack; each tenth step asks twice."""
    import foolbox

    model = foolbox.PyTorchModel(bench.model, bounds=(0, 1), device="cpu")
    steps = round(bench.queries / 1.1)
    attack = foolbox.attacks.BoundaryAttack(steps=steps, tensorboard=False)
    with torch.no_grad():
        _, found, _ = attack(model, bench.x, bench.y, epsilons=None)
    return found, bench.model.rows / len(bench.x)


def reference_square(bench: Bench, seed: int) -> tuple[Tensor, float]:
    """Run the Square attack of the reference AutoAttack."""
    from pyautoattack import AutoAttack

    suite = AutoAttack(bench.model, attacks=["square"], version="custom", eps=EPSILON, seed=seed)
    suite.square.n_queries = bench.queries
    found = suite.run_standard_evaluation(bench.x, bench.y, batch_size=len(bench.x))
    found = found[0] if isinstance(found, tuple) else found
    return found, bench.model.rows / len(bench.x)


def torchattacks_square(bench: Bench, seed: int) -> tuple[Tensor, float]:
    """Run torchattacks' Square attack."""
    import torchattacks

    attack = torchattacks.Square(bench.model, "Linf", EPSILON, bench.queries, seed=seed)
    return attack(bench.x, bench.y), bench.model.rows / len(bench.x)


RUNS: tuple[tuple[str, Norm, Run], ...] = (
    ("hop_skip_jump", "l2", ours(hop_skip_jump, "l2", math.inf)),
    ("hop_skip_jump as in the paper", "l2",
     ours(hop_skip_jump, "l2", math.inf, evaluations=100, memory=0.0, path="jump")),
    ("ART HopSkipJump", "l2", art_hop_skip_jump(2)),
    ("hop_skip_jump", "linf", ours(hop_skip_jump, "linf", math.inf)),
    ("ART HopSkipJump", "linf", art_hop_skip_jump(math.inf)),
    ("rays", "linf", ours(rays, "linf", math.inf)),
    ("boundary", "l2", ours(boundary, "l2", math.inf)),
    ("foolbox BoundaryAttack", "l2", foolbox_boundary),
    ("square", "linf", ours(square, "linf", EPSILON)),
    ("reference AutoAttack, Square", "linf", reference_square),
    ("torchattacks Square", "linf", torchattacks_square),
)  # fmt: skip


if __name__ == "__main__":
    main()
