"""A mail sorter and three ways in: what is missorted before and behind each safeguard; the cost.

python examples/mail_sorting.py [FOLDER [DATA]] draws mail_sorting.png and prints a table; DATA is
digits (no files are needed) or mnist, of which 5 000 training and 1 000 test images are used.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _picture import DEPTH, GREY, INK, headline, panels, save

from trustml.benchmarks.harness import start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.setting import load_data
from trustml.contracts import Dataset, Record, Split
from trustml.defenses.zip_city import misfit, towns_of
from trustml.errors import BrokenClaim
from trustml.promotion import promotion
from trustml.provenance import check, new_key, seal, sign
from trustml.randomness import keyed
from trustml.recipes import choose, read_recipe
from trustml.store import trained

READERS = {
    "digits": ("digits", "mlp:hidden=[64,64],epochs=20"),
    "mnist": ("mnist:train_size=5000,test_size=1000", "cnn:epochs=8"),
}
SCANNER, ENVELOPE, RETRAINING = "the scanner", "the envelope", "retraining"
WAYS = {
    SCANNER: {"routes": ("lens_sticker", "gain_drift", "scanner_pattern")},
    ENVELOPE: {"routes": ("envelope_noise:epsilon=0.1", "envelope_sticker", "strokes")},
    RETRAINING: {"poisons": ("label_flip:rate=0.5,source=9,target=4", "badnets:rate=0.02,size=2")},
}
SAFEGUARDS = {
    SCANNER: ("golden_card", "drift_monitor", "second_scanner", "zip_city"),
    ENVELOPE: ("pgd_adversarial_training:epsilon=0.1", "median_filter", "bit_depth:bits=2",
               "abstain:rate=0.05"),
    RETRAINING: ("nearest_neighbour_sanitation", "spectral_signatures"),
}  # fmt: skip
GATE, SEAL = "promotion gate", "provenance"
LETTERS = 200
Cells = dict[tuple[str, str], "Cell"]


@dataclass(frozen=True)
class Cell:
    """What a way in achieves without and with a safeguard, 0 to 1, and what that costs."""

    before: float
    after: float
    cost: str = ""
    caught: bool = True


def cells_of(records: Sequence[Record]) -> Cells:
    """Return the harness's rows by way and safeguard; an attacker knows the safeguard if it can."""
    found: Cells = {}
    for record in records:
        assert record.status == "done", (record.case, record.reason)
        guard = str(record.options["safeguard"])
        if guard == "none":
            continue
        score = {name: one.value for name, one in record.scores.items()}
        worst = max(score["success static"], score.get("success adaptive", 0.0), 0.0)
        parts = [f"{100 * score['clean accuracy change']:+.1f} points"]
        if score["review per 1000"]:
            parts.append(f"{score['review per 1000']:.0f} ‰ by hand")
        delays = [value for name, value in score.items() if name == "delay static at 5 %"]
        parts += [f"after {delay:.0f} items" for delay in delays]
        way, name = record.plugin, guard.partition(":")[0]
        found[way, name] = Cell(score["success without"], worst, "\n".join(parts))
    return found


def gated(data: Dataset, reader: str, folder: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield for each poison whether the seal and the gate catch it: (way, safeguard, caught)."""
    held = data.test
    honest = trained(read_recipe(reader), data, 0, "cpu").module
    kept, people = folder / "train.npz", [folder / f"{name}.key" for name in ("anna", "ben")]
    for person in people:
        new_key(person)
    for text in WAYS[RETRAINING]["poisons"]:
        write(kept, data.train)
        seal([kept], folder / "provenance.jsonl", people[:1])
        sign(folder / "provenance.jsonl", people[1])
        poison = choose("poison", text)
        bad, _ = poison.plugin.function(
            data.train, random=keyed(0, data.train.ids), **poison.options
        )
        write(kept, bad)
        try:
            check(folder / "provenance.jsonl", people)
            yield poison.plugin.name, SEAL, False
        except BrokenClaim:
            yield poison.plugin.name, SEAL, True
        new = trained(read_recipe(reader), replace(data, train=bad), 0, "cpu").module
        with torch.no_grad():
            verdict = promotion(honest(held.x), new(held.x), held.y, allowed=0.1)
        yield poison.plugin.name, GATE, not verdict.promoted


def write(file: Path, split: Split) -> None:
    """Write the split as the retraining team has it on its disk."""
    np.savez(file, x=split.x.numpy(), y=split.y.numpy())


def letters(data: Dataset, reader: str, epsilon: float = 0.1) -> tuple[float, float]:
    """Return which share of letters goes astray when one digit is changed: all, and unnoticed.

    A letter has five digits and names its town. Its owner changes one digit, and not the town.
    """
    module: Any = trained(read_recipe(reader), data, 0, "cpu").module
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(len(data.test), (LETTERS, 5), generator=draw)
    place = torch.randint(5, (LETTERS,), generator=draw)
    written = data.test.y[rows]
    mail = data.test.at(rows[torch.arange(LETTERS), place])
    route = choose("route", f"envelope_noise:epsilon={epsilon}")
    tampering = route.plugin.function(
        module, data.train.at(slice(256)), random=keyed(0, data.train.ids[:256]), **route.options
    )
    x = data.test.x[rows].clone()
    x[torch.arange(LETTERS), place] = tampering(mail.x, mail.y, keyed(0, mail.ids))
    with torch.no_grad():
        clean, chances = (module(z.flatten(0, 1)).softmax(1).view(LETTERS, 5, 10)
                          for z in (data.test.x[rows], x))  # fmt: skip
    towns = towns_of(written)
    well = (clean.argmax(2) == written).all(1)
    # One in a hundred letters that are read well goes to a person, and so do most that are not.
    threshold = misfit(clean, towns)[well].quantile(0.99)
    astray = (chances.argmax(2) != written).any(1) & well
    unnoticed = astray & (misfit(chances, towns) <= threshold)
    return float(astray.double().mean()), float(unnoticed.double().mean())


def draw(cells: Cells, title: str, below: str) -> None:
    """Draw a panel for each way in: routes by safeguards, with the cost beneath."""
    names = {group: [text.partition(":")[0] for text in of] for group, of in SAFEGUARDS.items()}
    names[RETRAINING] += [GATE, SEAL]
    figure, axes = panels(1, 3, (15.5, 4.6), width_ratios=[len(of) for of in names.values()])
    for axis, (group, guards) in zip(axes, names.items(), strict=True):
        ways = [text.partition(":")[0] for of in WAYS[group].values() for text in of]
        for line, way in enumerate(ways):
            for column, guard in enumerate(guards):
                cell = cells[way, guard]
                axis.add_patch(tile(column, line, DEPTH(0.9 * cell.after)))
                text = f"{100 * cell.before:.0f} → {100 * cell.after:.0f} %"
                dark = cell.after > 0.55
                axis.text(column, line, text, ha="center", va="center",
                          color="white" if dark else INK)  # fmt: skip
        for column, guard in enumerate(guards):
            cost = cells[ways[0], guard].cost
            axis.text(column, len(ways) - 0.4, cost, ha="center", va="top", color=GREY, fontsize=8)
        axis.set_xlim(-0.5, len(guards) - 0.5)
        axis.set_ylim(len(ways) + 0.5, -0.5)
        axis.set_yticks(range(len(ways)), [way.replace("_", "\n") for way in ways], color=INK)
        labels = [guard.replace("_", "\n").replace(" ", "\n") for guard in guards]
        axis.set_xticks(range(len(guards)), labels, color=INK)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        for side in ("left", "bottom"):
            axis.spines[side].set_visible(False)
        axis.set_title(group, pad=8)
    headline(figure, title, below)
    print(f"drawn: {save(figure, 'mail_sorting')}")


def tile(column: int, line: int, colour: Any) -> Any:
    """Return the square of a cell."""
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.47, line - 0.46), 0.94, 0.92, color=colour)


def check_facts(cells: Cells, astray: float, unnoticed: float) -> None:
    """Hold the picture to what its words say."""
    scanner = [text.partition(":")[0] for text in WAYS[SCANNER]["routes"]]
    for way in scanner:
        assert cells[way, "second_scanner"].after < 0.2 * cells[way, "second_scanner"].before
        assert all(cells[way, guard].after < cells[way, guard].before
                   for guard in SAFEGUARDS[SCANNER])  # fmt: skip
    noise = cells["envelope_noise", "pgd_adversarial_training"]
    assert noise.after < 0.6 * noise.before
    strokes = cells["strokes", "bit_depth"]
    assert strokes.after > 0.9 * strokes.before, "rounding does not stop what is large"
    assert cells["label_flip", GATE].caught
    assert not cells["badnets", GATE].caught, "clean recall says nothing of a sleeping backdoor"
    assert cells["label_flip", SEAL].caught
    assert cells["badnets", SEAL].caught
    assert unnoticed < 0.5 * astray


def main() -> None:
    """Run the scenario, print the table and draw it."""
    text, reader = READERS[sys.argv[2] if len(sys.argv) > 2 else "digits"]
    data, cells = load_data(text, None), {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (group, ways) in enumerate(WAYS.items()):
            plan = Plan((reader,), data=text, defenses=SAFEGUARDS[group], limit=300,
                        indicators=False, **ways)  # fmt: skip
            cells |= cells_of(list(start(plan, Path(folder) / str(number))))
        for way, guard, caught in gated(data, reader, Path(folder)):
            before = cells[way, SAFEGUARDS[RETRAINING][0]].before
            cost = "+0.0 points"
            cells[way, guard] = Cell(before, 0.0 if caught else before, cost, caught)
    astray, unnoticed = letters(data, reader)
    check_facts(cells, astray, unnoticed)
    for (way, guard), cell in cells.items():
        costs = cell.cost.replace("\n", ", ")
        print(f"{way:18} {guard:30} {cell.before:6.1%} → {cell.after:6.1%}   {costs}")
    print(f"letters astray: {astray:.1%}, unnoticed beside the town's name: {unnoticed:.1%}")
    draw(
        cells,
        f"A mail sorter ({reader.partition(':')[0]} on {data.name}) and three ways in",
        "Share of mail that is missorted, without a safeguard → behind it, by an attacker who "
        "knows it; dark is bad. Below each, its cost when nobody attacks. Scanner: monitors stop "
        "the sorting at the first alarm of 100 items. Retraining: label_flip costs accuracy, "
        "badnets is its trigger's success; the seal and the gate keep a caught model out. "
        f"Of letters with one digit changed {astray:.0%} go astray, and {unnoticed:.0%} unnoticed "
        "where the code is compared with the town.",
    )


if __name__ == "__main__":
    main()
