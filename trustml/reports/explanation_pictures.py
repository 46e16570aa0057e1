"""The heat-map sheet of a run of explanations, into its folder."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.explanation_cases import ASIDE, INPUTS, MAPS, TARGET, read
from trustml.benchmarks.harness import finished
from trustml.benchmarks.plan import read_plan
from trustml.benchmarks.setting import load_data
from trustml.contracts import Record
from trustml.errors import NotApplicable
from trustml.files import write_whole
from trustml.reports.heat_maps import heat_maps
from trustml.reports.tables import apart

SHEET = "heat-maps.png"
_ROWS = 8


def explanation_pictures(folder: Path) -> list[Path]:
    """Draw `MODEL-heat-maps.png`: a few inputs and what each method says of them; return the files.

    Inputs that are no pictures are left out.

    Raises:
        BadInput: the folder holds no run.
        BrokenClaim: its files are damaged.
    """
    records = finished(folder)
    drawn: list[Path] = []
    for aside in (record for record in records if record.kind == "attributions"):
        same = [r for r in records if (r.model, r.seed) == (aside.model, aside.seed)]
        done = [r for r in same if r.kind == "attribution" and r.status == "done"]
        label = aside.case.removesuffix(f"-{ASIDE}")
        try:
            picture = _sheet(folder, done, label) if done else None
        except NotApplicable:  # inputs that are no pictures
            continue
        if picture:
            write_whole(folder / f"{label}-{SHEET}", picture)
            drawn.append(folder / f"{label}-{SHEET}")
    return drawn


def _sheet(folder: Path, done: Sequence[Record], label: str) -> bytes:
    plan = read_plan(folder)
    names = load_data(plan.data, plan.data_dir).class_names
    stored = [read(folder / CASES / record.case / SAMPLES) for record in done]
    x, target = stored[0][INPUTS], stored[0][TARGET]
    rows = _one_of_each(target)
    titles = apart([(record.plugin, record.options) for record in done])
    maps = {title: each[MAPS][rows] for title, each in zip(titles, stored, strict=True)}
    said = tuple(names[int(one)] for one in target[rows])
    return heat_maps(x[rows], maps, said, f"{label}: what speaks for the class named on the left")


def _one_of_each(target: Tensor) -> list[int]:
    """Return the first row of each class, then others, a few in all."""
    first = {int(one): row for row, one in reversed(list(enumerate(target)))}
    others = [row for row in range(len(target)) if row not in first.values()]
    return ([first[one] for one in sorted(first)] + others)[:_ROWS]
