"""Five published claims about uncertainty, tried over three seeds: what holds here, and what not.

python examples/detector_facts.py [FOLDER [DATA …]] draws detector_facts.png and prints a table;
DATA is digits by default (no files needed), or mnist, fashion_mnist or both. Of the large
collections 5 000 training and 2 000 test images are used. Fitted models stay in the cache.
"""

import math
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from _picture import BLUE, GREY, INK, ORANGE, headline, panels, save

from trustml.benchmarks.detected import read
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import start
from trustml.benchmarks.plan import Plan
from trustml.contracts import Record

SEEDS, EPOCHS = 3, 5
SIZES = "train_size=5000,test_size=2000"
# Each with what is outside of it.
OUTSIDE = {"digits": "inverted", "mnist": "fashion_mnist", "fashion_mnist": "mnist"}
NET = f"cnn:epochs={EPOCHS}"
ODIN, PLAIN = "odin+mcp", "vae"
DROPOUT, LAPLACE, ENSEMBLE = (
    f"bnn:posterior={name},body=cnn,epochs={EPOCHS}"
    for name in ("mc_dropout", "laplace_last_layer", "ensemble,members=3")
)
ASKED = {
    NET: (
        "mcp", "entropy", "confidnet", "stack", "odin", "vae:steps=600",
        "vae:steps=600,complexity=entropy",
    ),
    DROPOUT: ("mcp", "entropy", "variation_ratio"),
    LAPLACE: ("entropy",),
    ENSEMBLE: ("entropy",),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One claim on one dataset: a figure for each of two contestants and seed; 0 to 1."""

    claim: str
    data: str
    first: str
    second: str
    pairs: Sequence[tuple[float, float]]

    @property
    def gain(self) -> tuple[float, float]:
        """The mean of first less second, and half of its 95 % interval (Student's, over seeds)."""
        from scipy import stats

        differences = [a - b for a, b in self.pairs]
        width = stats.t.ppf(0.975, len(differences) - 1) / math.sqrt(len(differences))
        return statistics.fmean(differences), float(width) * statistics.stdev(differences)

    @property
    def outcome(self) -> str:
        """Reproduced where the whole interval says so, refuted where it says the contrary."""
        middle, half = self.gain
        if abs(middle) <= half:
            return "not settled"
        return "reproduced" if middle > 0 else "refuted"


def mean(values: Sequence[float]) -> str:
    """Return the mean over seeds in per cent, with the least and the greatest."""
    low, middle, high = (100 * v for v in (min(values), statistics.fmean(values), max(values)))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


class Seen:
    """What the exam found on one dataset, by model, detector and seed."""

    def __init__(self, data: str, folder: Path) -> None:
        """Train and examine every model with every seed."""
        self.data, self.folder = data, folder
        self.records: dict[tuple[str, str, int], Record] = {}
        text = data if data == "digits" else f"{data}:{SIZES}"
        for number, (model, detectors) in enumerate(ASKED.items()):
            plan = Plan(
                models=(model,), data=text, detectors=detectors, outside=(OUTSIDE[data],),
                limit=2000, seeds=SEEDS, device="cpu",
                data_dir=os.environ.get("TRUSTML_DATA"),
            )  # fmt: skip
            for record in start(plan, folder / f"{data}-{number}"):
                if record.kind == "detector":
                    assert record.status == "done", record.reason
                    name = record.plugin + (
                        "-less" if record.options.get("complexity") == "entropy" else ""
                    )
                    self.records[model, name, record.seed] = record

    def score(self, model: str, detector: str, name: str) -> list[float]:
        """Return the score of each seed; "out" is the AUROC of what is outside."""
        name = f"{OUTSIDE[self.data]}: auroc" if name == "out" else name
        return [self.records[model, detector, s].scores[name].value for s in range(SEEDS)]

    def agreement(self) -> list[tuple[float, float]]:
        """Return the variation ratio of the tenth least, and most, certain by probability."""
        number = list(ASKED).index(DROPOUT)
        pairs = []
        for seed in range(SEEDS):
            home = self.folder / f"{self.data}-{number}" / CASES
            certain, ratio = (
                read(home / self.records[DROPOUT, name, seed].case / SAMPLES)["test"]
                for name in ("mcp", "variation_ratio")
            )
            order, tenth = certain.argsort(), len(certain) // 10
            pairs.append((float(ratio[order[-tenth:]].mean()), float(ratio[order[:tenth]].mean())))
        return pairs

    def rows(self) -> Iterator[Row]:
        """Yield the claims, the contestant that is said to win first."""

        def row(claim: str, name: str, first: Sequence[str], second: Sequence[str]) -> Row:
            pairs = zip(self.score(*first[:2], name), self.score(*second[:2], name), strict=True)
            return Row(claim, self.data, first[2], second[2], list(pairs))

        error = "errors: aupr_error"
        mcp, dropout = (NET, "mcp", "MCP"), (DROPOUT, "entropy", "MC dropout, entropy")
        yield Row(
            "1 variation ratio of MC dropout", self.data, "least certain tenth",
            "most certain tenth", self.agreement(),
        )  # fmt: skip
        for contestant in (mcp, dropout):
            yield row("2 errors, AUPR", error, (NET, "confidnet", "ConfidNet"), contestant)
        yield row("2 errors, AUPR", error, (NET, "stack", "stack (ours)"), mcp)
        for contestant in (mcp, dropout):
            yield row("3 outside, AUROC", "out", (NET, ODIN, "ODIN"), contestant)
        less = (NET, PLAIN + "-less", "-ELBO less complexity")
        if self.data == "fashion_mnist":  # of others nobody claimed it
            yield row("4 outside, AUROC", "out", less, (NET, PLAIN, "-ELBO"))
        for model, name in ((LAPLACE, "last-layer Laplace"), (ENSEMBLE, "ensemble of 3")):
            yield row("5 outside, AUROC", "out", (model, "entropy", name), (NET, "entropy", "MAP"))


def table(rows: Sequence[Row]) -> str:
    """Return the rows as markdown."""
    heads = "| claim | data | first | % | second | % | first − second | outcome |"
    lines = [heads, "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        first, second = (mean(values) for values in zip(*r.pairs, strict=True))
        middle, half = (100 * v for v in r.gain)
        lines.append(
            f"| {r.claim} | {r.data} | {r.first} | {first} | {r.second} | {second} "
            f"| {middle:+.1f} ± {half:.1f} | {r.outcome} |"
        )
    return "\n".join(lines)


def draw(rows: Sequence[Row]) -> None:
    """Draw the gains of the first contestants, each seed a dot."""
    colors: Mapping[str, str] = {"reproduced": BLUE, "refuted": ORANGE, "not settled": GREY}
    figure, (axis,) = panels(1, 1, (10.5, 1.6 + 0.3 * len(rows)))
    for place, r in enumerate(reversed(rows)):
        middle, half = (100 * v for v in r.gain)
        axis.errorbar(middle, place, xerr=half, color=colors[r.outcome], marker="o", capsize=3)
        dots = [100 * (a - b) for a, b in r.pairs]
        axis.scatter(dots, [place] * len(dots), color=INK, s=5, zorder=3)
    axis.set_yticks(
        range(len(rows)),
        [f"{r.claim[2:]}, {r.data}: {r.first} over {r.second}" for r in reversed(rows)],
    )
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_xlim(-60, 100)
    axis.set_xlabel("points of the first over the second")
    headline(
        figure,
        "Five claims about uncertainty, over three seeds",
        "Dots are seeds, bars the 95 % interval of their mean: blue where the claim is reproduced, "
        "orange where it is refuted, grey where three seeds do not settle it.",
    )
    print(f"drawn: {save(figure, 'detector_facts')}")


def main() -> None:
    """Print the table and draw it."""
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    for data in sys.argv[2:] or ["digits"]:
        with tempfile.TemporaryDirectory() as folder:
            rows += Seen(data, Path(folder)).rows()
    # Confidence and agreement of draws tell one story; this much is certain on any data.
    assert all(r.outcome == "reproduced" for r in rows if r.claim.startswith("1"))
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    main()
