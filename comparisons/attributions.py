"""Metrics of explanations beside Quantus's, interleaved in one run, on MNIST.

    python comparisons/attributions.py [IMAGES [ROUNDS [WEIGHTS]]]

TRUSTML_DATA says where MNIST lies; WEIGHTS is a checkpoint of trustml's `cnn`, which else is
trained. Both judge the same maps (integrated gradients) of the same images, at about as many
changed copies of each, which are counted at the model; but Quantus makes the same 49 changes of its
infidelity ten times over, and ROAD of trustml removes from both ends. Times are seconds of the
processor, the best of the rounds, so that others on the machine count little. "Its passes" is what
the model alone takes for the rows that trustml asked about, 64 at a time: no metric can be faster.
Beside them stands what either says of an exact map of a linear model, where the answer is known.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from trustml.benchmarks.explained import Explained
from trustml.benchmarks.explanation_question import explainer
from trustml.benchmarks.explanation_removal import deletion, road
from trustml.benchmarks.explanation_sanity import parameter_randomisation
from trustml.benchmarks.explanation_stability import max_sensitivity
from trustml.benchmarks.explanation_sums import completeness, infidelity, sensitivity_n
from trustml.recipes import choose, read_recipe
from trustml.registry import get
from trustml.store import trained

# Metrics that explain anew, by gradients.
BACKWARDS = ("maximum sensitivity", "parameter randomisation")
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Rows(nn.Module):
    """The model, with a count of the rows that it, and copies of it, were asked about."""

    count: ClassVar[list[int]] = [0]

    def __init__(self, model: nn.Module) -> None:
        """Wrap the model."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K)."""
        self.count[0] += len(x)
        return self.model(x)


def slope(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the target's logit, (B, *S)."""
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(leaf).gather(1, target[:, None]).sum(), leaf)[0]


def ours(model: nn.Module, explained: Explained) -> dict[str, Callable[[], Any]]:
    """Return metric → a run of it, at about as many rows as Quantus asks for."""
    x, target, black = explained.x, explained.target, torch.zeros_like(explained.x)

    def explain(x: Tensor, target: Tensor) -> Tensor:
        return slope(model, x, target)

    return {
        "completeness": lambda: completeness(model, explained, black),
        "deletion": lambda: deletion(model, explained, black, steps=28),
        "infidelity": lambda: infidelity(model, explained, black, draws=49),
        "sensitivity-n": lambda: sensitivity_n(model, explained, black, subsets=6),
        "ROAD": lambda: road(model, explained, black, shares=SHARES),
        "maximum sensitivity": lambda: max_sensitivity(explain, x, target, draws=10),
        "parameter randomisation": lambda: parameter_randomisation(model, slope, x, target),
    }


def theirs(model: nn.Module, explained: Explained) -> dict[str, Callable[[], Any]]:
    """Return the same of Quantus; raw maps and logits where its defaults would change them."""
    if not hasattr(np, "trapz"):  # Quantus 0.6 calls it by the name it had before NumPy 2
        np.trapz = np.trapezoid
    import quantus

    x, y, maps = (part.numpy() for part in (explained.x, explained.target, explained.maps.float()))

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> Any:
        points = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
        return slope(model, points, torch.as_tensor(np.asarray(targets))).numpy()

    common = {"disable_warnings": True, "display_progressbar": False}
    plain = {**common, "normalise": False, "perturb_baseline": "black"}
    metrics = {
        "completeness": quantus.Completeness(**plain),
        "deletion": quantus.PixelFlipping(features_in_step=28, return_auc_per_sample=True, **plain),
        "infidelity": quantus.Infidelity(perturb_patch_sizes=[4], n_perturb_samples=10, **plain),
        "sensitivity-n": quantus.SensitivityN(features_in_step=28, return_aggregate=False, **plain),
        "ROAD": quantus.ROAD(
            percentages=[100 * share for share in SHARES], normalise=False, **common
        ),
        "maximum sensitivity": quantus.MaxSensitivity(nr_samples=10, lower_bound=0.02, **common),
        "parameter randomisation": quantus.MPRT(
            layer_order="bottom_up", return_average_correlation=True, abs=False, **common
        ),
    }

    def run(name: str) -> Callable[[], Any]:
        fresh = name in ("maximum sensitivity", "parameter randomisation")
        return lambda: metrics[name](
            model=model, x_batch=x, y_batch=y, a_batch=None if fresh else maps,
            explain_func=explain, device="cpu",
        )  # fmt: skip

    return {name: run(name) for name in metrics}


def timed(work: Callable[[], Any], rows: Rows) -> tuple[float, float, Any]:
    """Return processor seconds, rows of the model, and the answer."""
    rows.count[0] = 0
    started = time.process_time()
    answer = work()
    return time.process_time() - started, rows.count[0], answer


def shown(answer: Any) -> str:
    """Return an answer's mean in a few digits."""
    value = answer.score.value if hasattr(answer, "score") else np.nanmean(_flat(answer))
    return f"{value:.3g}"


def _flat(answer: Any) -> Any:
    if isinstance(answer, dict):
        return np.concatenate([_flat(part) for part in answer.values()])
    return np.asarray(answer, dtype=np.float64).ravel()


def passes(model: nn.Module, x: Tensor, repeats: int = 5) -> tuple[float, float]:
    """Return processor seconds of one row forwards, and of one forwards and back."""
    part, target = x[:64], torch.zeros(len(x[:64]), dtype=torch.long)

    def forwards() -> None:
        with torch.no_grad():
            model(part)

    best = []
    for work in (forwards, lambda: slope(model, part, target)):
        work()
        seconds = []
        for _ in range(repeats):
            started = time.process_time()
            for _ in range(10):
                work()
            seconds.append(time.process_time() - started)
        best.append(min(seconds) / 10 / len(part))
    return best[0], best[1]


def speed(model: nn.Module, explained: Explained, rounds: int) -> None:
    """Print the table of times."""
    rows = Rows(model).eval()
    mine, peers = ours(rows, explained), theirs(rows, explained)
    count, sums = len(explained.x), np.zeros(2)
    one_way, both_ways = passes(model, explained.x)
    print(f"One row forwards {1e6 * one_way:.0f} µs, and back {1e6 * both_ways:.0f} µs.\n")
    print("| metric | trustml s | its passes s | Quantus s | ratio | rows an image | values |")
    print("|---|---|---|---|---|---|---|")
    for name in mine:
        best, asked, said = [np.inf, np.inf], [0.0, 0.0], ["", ""]
        for _ in range(rounds):
            for side, work in enumerate((mine[name], peers[name])):
                seconds, asked[side], answer = timed(work, rows)
                best[side], said[side] = min(best[side], seconds), shown(answer)
        sums += best
        least = asked[0] * (both_ways if name in BACKWARDS else one_way)
        print(
            f"| {name} | {best[0]:.3f} | {least:.3f} | {best[1]:.2f} | {best[0] / best[1]:.3f} | "
            f"{asked[0] / count:.0f}, {asked[1] / count:.0f} | {said[0]}, {said[1]} |",
            flush=True,
        )
    print(f"| all | {sums[0]:.2f} | | {sums[1]:.2f} | {sums[0] / sums[1]:.3f} | | |")


def truth(rows: int = 64) -> None:
    """Print what either says of the exact parts w·x of a linear model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    x, target = torch.rand(rows, 1, 28, 28), torch.arange(rows) % 10
    x[:, :, 0, 0] = 0  # Quantus's "black" is the least value of the image
    maps = slope(model, x, target) * x
    influence = Explained(x, target, slope(model, x, target), True)
    parts = Explained(x, target, maps, False)
    mine = ours(model, parts)
    print("\nAn exact map of a linear model (completeness error 0, infidelity 0, sensitivity-n 1):")
    print(f"| completeness | trustml error {shown(mine['completeness']())} | Quantus "
          f"{shown(theirs(model, parts)['completeness']())} of maps complete |")  # fmt: skip
    print(f"| infidelity | trustml {shown(mine['infidelity']())} | Quantus "
          f"{shown(theirs(model, influence)['infidelity']())} |")  # fmt: skip
    print(f"| sensitivity-n | trustml {shown(mine['sensitivity-n']())} | Quantus "
          f"{shown(theirs(model, parts)['sensitivity-n']())} |")  # fmt: skip


def main() -> None:
    """Run the comparison with the numbers of the command line."""
    images, rounds = (int(text) for text in [*sys.argv[1:3], "200", "2"][:2])
    if len(sys.argv) == 2:
        rounds = 2
    weights = sys.argv[3] if len(sys.argv) > 3 else None
    data = get("data", "mnist").function(folder=os.environ.get("TRUSTML_DATA"))
    recipe = read_recipe(f'cnn:weights="{weights}"' if weights else "cnn:epochs=2")
    model = trained(recipe, data, 0, "cpu").module.eval()
    x = data.test.x[:images]
    with torch.no_grad():
        target = model(x).argmax(1)
    method = choose("attribution", "integrated_gradients")
    maps = explainer(method, model, data.train.x[:100])(x, target)
    warnings.simplefilter("ignore")
    speed(model, Explained(x, target, maps, False), rounds)
    truth()


if __name__ == "__main__":
    main()
