"""Detectors beside pytorch-ood's, the same scores of one CNN on MNIST against two other sets.

    python comparisons/detectors.py [TRAIN [TEST [MODEL]]]

TRAIN training images (54 000 by default) and TEST (10 000) of MNIST, of Fashion-MNIST and of noise;
TRUSTML_DATA says where the files lie; MODEL is cnn:epochs=3 by default. trustml runs the network
over all of them once and keeps what it says; that pass is counted. pytorch-ood is timed in both
ways that it offers: each detector asked with images (`fit`, `predict`), and each asked with
features and logits of one pass that all share (`fit_features`, `predict_features`; the pass is
counted, too). Seconds are those of the processor, on one thread, so that others on the machine do
not count. "apart" is the greatest difference of the
scores over their spread, after the constant factor or offset by which the two definitions differ.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trustml.access import frozen
from trustml.benchmarks.suspicion import learnt, read_chain
from trustml.contracts import Dataset, Outputs, Split
from trustml.data.mnist import mnist
from trustml.partners import partner
from trustml.recipes import read_recipe
from trustml.store import trained

BATCH, MODEL = 1000, "cnn:epochs=3"
SETS = ("test", "fashion_mnist", "noise")


@dataclass
class Bench:
    """The model, the splits that all score, and what the model said of them."""

    model: Any
    splits: dict[str, Split]
    outputs: dict[str, Outputs] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """One of pytorch-ood's detectors: what it is here, and how it is made, fitted and asked.

    Args:
        ours: the chain that gives the same scores.
        made: from the model; `fits` says whether it learns from training data.
        part: "features", "maps" or "logits", what its shared-pass functions read, or "x".
    """

    ours: str
    made: Callable[[Any], Any]
    part: str
    fits: bool = True
    learns_from: str = "train"


def peers() -> dict[str, Peer]:
    """Return pytorch-ood's detectors that have one of ours beside them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_ood import detector as d
        from pytorch_ood.detector.gmm import GMM

    def last(model: Any) -> str:
        return f"body.{len(model.body) - 1}.weight"

    def maps(model: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: model.features(x)[:, :, None, None]

    def head(model: Any) -> Callable[[Tensor], Tensor]:
        return lambda z: model.head(z.flatten(1))

    return {
        "MaxSoftmax": Peer("mcp", lambda m: d.MaxSoftmax(m), "logits", False),
        "MaxLogit": Peer("max_logit", lambda m: d.MaxLogit(m), "logits", False),
        "Entropy": Peer("entropy", lambda m: d.Entropy(m), "logits", False),
        "EnergyBased": Peer("energy", lambda m: d.EnergyBased(m), "logits", False),
        "KLMatching": Peer(
            "kl_matching", lambda m: d.KLMatching(m), "logits", learns_from="validation"
        ),
        "KNN": Peer("knn:k=10,samples=none", lambda m: d.KNN(m.features, k=10), "features"),
        "ViM": Peer(
            "vim:dimensions=50",
            lambda m: d.ViM(m.features, d=50, w=m.head.weight, b=m.head.bias),
            "features",
        ),
        "SHE": Peer("she", lambda m: d.SHE(m.features, m.head), "features"),
        "Mahalanobis": Peer("mahalanobis", lambda m: d.Mahalanobis(m.features), "features"),
        "RMD": Peer("relative_mahalanobis", lambda m: d.RMD(m.features), "features"),
        "GMM": Peer("gaussian_features:shrinkage=0.01", lambda m: GMM(m.features), "features"),
        "ASH": Peer(
            "ash+energy", lambda m: d.ASH(maps(m), head(m), percentile=0.65), "maps", False
        ),
        "SCALE": Peer(
            "scale+energy", lambda m: d.SCALE(maps(m), head(m), percentile=0.85), "maps", False
        ),
        "ReAct": Peer("react+energy", lambda m: d.ReAct(maps(m), head(m), percentile=0.9), "maps"),
        "DICE": Peer(
            "dice+energy",
            lambda m: d.DICE(m.features, m.head.weight, m.head.bias, p=0.9),
            "features",
        ),
        "GradNorm": Peer(
            "gradnorm",
            lambda m: d.GradNorm(m, param_filter=lambda name: name == last(m)),
            "x",
            False,
        ),
        "ODIN": Peer("odin+mcp", lambda m: d.ODIN(m, temperature=1000.0, eps=0.0014), "x", False),
    }


def main() -> None:
    """Print the table."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")  # the peer's own
    train, test = (int(sys.argv[n]) if len(sys.argv) > n else 60_000 for n in (1, 2))
    data = mnist(folder=os.environ.get("TRUSTML_DATA"))
    bench = settle(data, train, test, sys.argv[3] if len(sys.argv) > 3 else MODEL)
    sizes = ", ".join(f"{len(split)} {name}" for name, split in bench.splits.items())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread; {sizes}")
    one_pass = seconds(lambda: bench.outputs.update(read(bench)))
    print(f"one pass of the network over all of them: {one_pass:.1f} s\n")
    print("| pytorch-ood | trustml | s | theirs, shared pass | theirs, own passes | apart |")
    print("|---|---|---|---|---|---|", flush=True)
    total = [one_pass, one_pass, 0.0]
    for name, peer in peers().items():
        spent = compare(name, peer, bench)
        total = [a + b for a, b in zip(total, spent, strict=True)]
    print(f"| all, passes included | | {total[0]:.1f} | {total[1]:.1f} | {total[2]:.1f} | |")
    print(f"\ntrustml takes 1/{total[1] / total[0]:.1f} of theirs with a shared pass, ", end="")
    print(f"1/{total[2] / total[0]:.1f} of theirs with a pass each.")


def settle(data: Dataset, train: int, test: int, text: str) -> Bench:
    """Return the trained model and the splits."""
    model = trained(read_recipe(text), data, 0, torch.device("cpu")).module.eval()
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    splits |= {name: partner(data, name, os.environ.get("TRUSTML_DATA")) for name in SETS[1:]}
    most = {"train": train, "validation": test}
    return Bench(model, {n: split.at(slice(0, most.get(n, test))) for n, split in splits.items()})


@torch.no_grad()
def read(bench: Bench) -> dict[str, Outputs]:
    """Return what the model says of each split, in one pass: the head reads the features."""
    found = {}
    for name, split in bench.splits.items():
        features = torch.cat([bench.model.features(part.x) for part in split.batches(BATCH)])
        found[name] = Outputs(bench.model.head(features), features, split.x, split.y)
    return found


def compare(name: str, peer: Peer, bench: Bench) -> list[float]:
    """Print one line; return the seconds of ours, of theirs on a shared pass and on its own."""
    scores: dict[str, dict[str, Tensor]] = {}
    chain, outputs = read_chain(peer.ours), bench.outputs

    def ours() -> None:
        scorer = learnt(chain, bench.model, outputs["train"], outputs["validation"])
        scores["ours"] = {one: scorer(outputs[one]) for one in SETS}

    def shared() -> None:
        scores["theirs"] = on_outputs(peer, bench)

    def alone() -> None:
        scores["alone"] = on_images(peer, bench)

    spent = [seconds(ours), seconds(shared) if peer.part != "x" else None, seconds(alone)]
    theirs = scores.get("theirs", scores["alone"])
    far = max(apart(scores["ours"][one], theirs[one]) for one in SETS)
    second = f"{spent[1]:.2f}" if spent[1] is not None else "has none"
    print(f"| {name} | {peer.ours} | {spent[0]:.2f} | {second} | {spent[2]:.2f} | {far:.1g} |",
          flush=True)  # fmt: skip
    return [spent[0], spent[2] if spent[1] is None else spent[1], spent[2]]


def on_outputs(peer: Peer, bench: Bench) -> dict[str, Tensor]:
    """Return the peer's scores from features or logits that are there."""
    made, kind = made_of(peer, bench), {"maps": "feature_maps"}.get(peer.part, peer.part)

    def part(outputs: Outputs) -> Tensor:
        if peer.part == "maps":
            return outputs.features[:, :, None, None]
        return outputs.features if peer.part == "features" else outputs.logits

    if peer.fits:
        train = bench.outputs[peer.learns_from]
        getattr(made, f"fit_{kind}")(part(train), train.y)
    ask = getattr(made, f"predict_{kind}")
    return {
        one: torch.cat([ask(block) for block in part(bench.outputs[one]).split(BATCH)])
        for one in SETS
    }


def made_of(peer: Peer, bench: Bench) -> Any:
    """Return the peer's detector; its Gaussians add to variances what ours add by share."""
    made = peer.made(bench.model)
    if hasattr(made, "reg"):
        variance = bench.outputs["train"].features.double().var(0, correction=0).mean()
        made.reg = 0.01 * float(variance)
    return made


def on_images(peer: Peer, bench: Bench) -> dict[str, Tensor]:
    """Return the peer's scores from images."""
    model: nn.Module = bench.model
    with frozen(model) if peer.part != "x" else torch.enable_grad():
        made, train = made_of(peer, bench), bench.splits[peer.learns_from]
        if peer.fits:
            made.fit(DataLoader(TensorDataset(train.x, train.y), batch_size=BATCH))
        return {
            one: torch.cat([made.predict(b.x).detach() for b in bench.splits[one].batches(BATCH)])
            for one in SETS
        }


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Return the greatest residual of the straight line from theirs to ours, over ours' spread."""
    x, y = theirs.detach().double(), ours.detach().double()
    x, y = x - x.mean(), y - y.mean()
    slope = (x * y).sum() / x.square().sum()
    return float((y - slope * x).abs().max() / y.std())


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor time of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
