"""Model stealing beside its peers, interleaved in one run, on networks trained on the digits.

    python comparisons/stealing.py [SEEDS [NAME …]]

All steal the same saved networks, 64-H-10 with one hidden ReLU layer. Queries are counted at the
network, a row is one. Agreement is on the test digits and on uniform noise; the gap is the largest
difference of a logit on the test digits, less their mean where no logits are answered; times are
seconds of the processor, so that others on the machine do not count. A peer that is not installed
is left out and named; a thief that has not ended after 200 000 queries is stopped. With NAMEs, only
thieves whose names hold one.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trustml.contracts import Access, Dataset, Terms
from trustml.models.mlp import mlp
from trustml.recipes import read_recipe
from trustml.registry import get
from trustml.store import trained
from trustml.training import seeded
from trustml.victim import Service

CURVE = (125, 250, 500, 1000)
WIDTH = 64  # of the learnt copies
MOST = 200_000  # queries; who has not ended by then is stopped


class Counted(nn.Module):
    """The network, with a count of the rows that it was asked about."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap the network, in float64: the exact methods live on its digits."""
        super().__init__()
        self.network, self.rows = network.double().requires_grad_(False), 0
        self.most = MOST

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads (B, D)."""
        return self.network.features(self._own(x))  # type: ignore[operator]

    def _own(self, x: Tensor) -> Tensor:
        return x.to(next(self.network.parameters()).dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K)."""
        self.rows += len(x)
        if self.rows > self.most:
            raise RuntimeError(f"stopped after {self.most} queries")
        return self.network(self._own(x))


@dataclass(frozen=True)
class Bench:
    """What all steal: the victim, the data that thieves may draw on, hidden width, a seed."""

    victim: Counted
    data: Dataset
    width: int
    seed: int


# Queries, what answers inputs like the copy, and seconds; several for a curve.
Found = list[tuple[int, Callable[[Tensor], Tensor], float]]
Thief = Callable[[Bench], Found]


def main() -> None:
    """Print the table."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")  # the peers' own
    data = get("data", "digits").function(folder=None)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, seeds 0 to {seeds - 1}")
    print("\n| thief | victim | seed | queries | agreement | on noise | gap | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name, widths, thief in THIEVES:
        if sys.argv[2:] and not any(part.lower() in name.lower() for part in sys.argv[2:]):
            continue
        for width in widths:
            for seed in range(seeds):
                compare(name, thief, data, width, seed)


def compare(name: str, thief: Thief, data: Dataset, width: int, seed: int) -> None:
    """Run one thief on one network and print its lines."""
    recipe = read_recipe(f"mlp:hidden=[{width}]")
    bench = Bench(Counted(trained(recipe, data, seed, "cpu").module), data, width, seed)
    torch.manual_seed(seed)
    np.random.seed(seed)
    x = data.test.x.double()
    noise = torch.rand(5000, *x.shape[1:], generator=torch.Generator().manual_seed(0)).double()
    head = f"| {name} | 64-{width}-10 | {seed} "
    try:
        found = thief(bench)
    except ImportError as missing:
        print(f"{head}| not installed: {missing.name} | | | | |", flush=True)
        return
    except Exception as error:  # a peer may raise anything
        print(f"{head}| {type(error).__name__}: {error} | | | | |".replace("\n", " "), flush=True)
        return
    for queries, copy, seconds in found:
        with torch.no_grad():
            shares = [same(bench.victim.network, copy, inputs) for inputs in (x, noise)]
            gaps = bench.victim.network(x) - copy(x)
            if "logits" not in name:  # then a common shift of all classes cannot be known
                gaps = gaps - gaps.mean(1, keepdim=True)
            gap = float(gaps.abs().max())
        print(
            f"{head}| {queries} | {shares[0]:.4f} | {shares[1]:.4f} | {gap:.1e} | {seconds:.1f} |",
            flush=True,
        )


def same(victim: nn.Module, copy: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Return the share of x (N, *S) that victim and copy give one class."""
    return float((victim(x).argmax(1) == copy(x).argmax(1)).double().mean())


def ours(
    name: str,
    answers: Access,
    inputs: str = "box",
    precision: str = "float64",
    **options: Any,
) -> Thief:
    """Return a run of a stealer of trustml, at one access level."""

    def run(bench: Bench) -> Found:
        domain = bench.data.train.domain
        terms = Terms(answers=answers, inputs=inputs, precision=precision)  # type: ignore[arg-type]
        service = Service(bench.victim, domain, terms)
        began = time.process_time()
        theft = get("stealer", name).function(
            service, bench.data.train.x, lambda: mlp(domain, hidden=(WIDTH,)),
            random=torch.Generator().manual_seed(bench.seed), **options,
        )  # fmt: skip
        seconds = time.process_time() - began
        assert theft.queries == service.queries  # blocks are padded, so the rows say more
        thefts = (*theft.earlier, theft) if theft.up_to == "behaviour" else (theft,)
        learnt = name not in ("relu_exact",)
        return [(part.queries, part.copy, seconds) for part in (thefts if learnt else thefts[-1:])]

    return run


def art_model(bench: Bench, network: nn.Module, logits: bool) -> Any:
    """Return ART's face of a network; it trains with soft labels, so the loss is their own."""
    from art.estimators.classification import PyTorchClassifier

    loss, shape = nn.CrossEntropyLoss(), tuple(bench.data.train.x.shape[1:])
    shown = network if logits else nn.Sequential(network, nn.Softmax(dim=1))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad] or
                                 [nn.Parameter(torch.zeros(1))], lr=3e-3)  # fmt: skip
    return PyTorchClassifier(
        shown, loss, shape, 10, optimizer=optimizer, clip_values=(0.0, 1.0), device_type="cpu"
    )


def art_learnt(kind: str) -> Thief:
    """Return ART's KnockoffNets or CopycatCNN, once for each number of queries, with our copy."""

    def run(bench: Bench) -> Found:
        from art.attacks.extraction import CopycatCNN, KnockoffNets

        found: Found = []
        pool = bench.data.train.x.numpy()
        np.random.default_rng(bench.seed).shuffle(pool := pool.copy())
        for queries in CURVE:
            victim = art_model(bench, bench.victim, logits=False)
            words = {"batch_size_fit": 64, "batch_size_query": 64, "nb_stolen": queries}
            # As many steps as ours take.
            epochs = max(60, 500 // -(-queries // 64))
            if kind == "knockoff":
                attack = KnockoffNets(
                    victim, nb_epochs=epochs, sampling_strategy="random", verbose=False,
                    use_probability=True, **words,
                )  # fmt: skip
            else:
                attack = CopycatCNN(victim, nb_epochs=epochs, use_probability=False, **words)
            with seeded(bench.seed):
                network = mlp(bench.data.train.domain, hidden=(WIDTH,))
            bench.victim.rows = 0
            began = time.process_time()
            attack.extract(pool[:queries], thieved_classifier=art_model(bench, network, True))
            seconds = time.process_time() - began
            network.eval()
            found.append((bench.victim.rows, lambda x, net=network: net(x.float()), seconds))
        return found

    return run


def art_equivalent(bench: Bench) -> Found:
    """Run ART's FunctionallyEquivalentExtraction, told the width; its answers kept in float64."""
    import art.config
    from art.attacks.extraction import FunctionallyEquivalentExtraction

    art.config.ART_NUMPY_DTYPE = np.float64
    flat = nn.Sequential(nn.Unflatten(1, tuple(bench.data.train.x.shape[1:])), bench.victim)

    class Oracle(FunctionallyEquivalentExtraction):
        """The attack, asking in float64: rounding to float32 would blind it."""

        def _o_l(self, x: np.ndarray, e_j: np.ndarray | None = None) -> np.ndarray:
            x = x if e_j is None else x + e_j
            return flat(torch.from_numpy(np.atleast_2d(x).astype(np.float64))).numpy()

    from art.estimators.classification import PyTorchClassifier

    model = PyTorchClassifier(flat, nn.CrossEntropyLoss(), (64,), 10, device_type="cpu")
    bench.victim.rows = 0
    began = time.process_time()
    attack = Oracle(model, num_neurons=bench.width)
    points = bench.data.train.x.flatten(1).double().numpy()
    copy = attack.extract(points)
    seconds = time.process_time() - began

    def answer(x: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(copy.predict(x.flatten(1).numpy())))

    return [(bench.victim.rows, answer, seconds)]


THIEVES: tuple[tuple[str, tuple[int, ...], Thief], ...] = (
    ("relu_exact, logits", (16, 32, 64), ours("relu_exact", Access.LOGITS, "free")),
    ("relu_exact, probabilities", (16, 32, 64), ours("relu_exact", Access.PROBABILITIES, "free")),
    ("relu_exact, logits, box", (32,), ours("relu_exact", Access.LOGITS)),
    ("ART FunctionallyEquivalentExtraction, logits", (4, 8, 16), art_equivalent),
    ("knockoff, probabilities", (32,), ours("knockoff", Access.PROBABILITIES)),
    ("ART KnockoffNets, probabilities", (32,), art_learnt("knockoff")),
    ("knockoff, labels", (32,), ours("knockoff", Access.LABELS)),
    ("ART CopycatCNN, labels", (32,), art_learnt("copycat")),
    ("active, probabilities", (32,), ours("active", Access.PROBABILITIES, queries=1000)),
    ("jacobian_augmentation, labels", (32,), ours("jacobian_augmentation", Access.LABELS)),
    ("data_free, probabilities", (32,), ours("data_free", Access.PROBABILITIES)),
)


if __name__ == "__main__":
    main()
