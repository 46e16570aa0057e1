"""`trustml bench` and `trustml show`: options → plan, records → screen."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from trustml.benchmarks.curve import curves
from trustml.benchmarks.exams import size
from trustml.benchmarks.plan import PLAN, Plan, read_plan
from trustml.cli.measured import check_measured
from trustml.contracts import Record
from trustml.errors import BadInput
from trustml.files import write_whole
from trustml.options import number
from trustml.recipes import split_recipe
from trustml.records import to_line
from trustml.reports.curve import curve_picture
from trustml.reports.detector_pictures import detector_pictures
from trustml.reports.explanation_pictures import explanation_pictures
from trustml.reports.inspection_picture import inspection_pictures
from trustml.reports.route_figure import route_pictures
from trustml.reports.table import render
from trustml.reports.tables import console
from trustml.reports.theft_figure import theft_picture

# What a plan can ask for, and what it is asked for where it names nothing.
_EXAMS = (
    "attacks", "detectors", "attributions", "stealers", "routes", "poisons", "inspections",
    "corruptions",
)  # fmt: skip
# So many pictures are named.
_SHOWN = 6
_STRONGEST, _NEAREST = "strongest", "fmn"


def plan_of(words: dict[str, Any]) -> Plan:
    """Return the plan of the options of `trustml bench`.

    Raises:
        BadInput: an epsilon, a batch size or a shard that is none.
    """
    epsilons = tuple(size_of(text) for text in words.pop("epsilons"))
    shard = words.pop("shard")
    index, _, count = shard.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise BadInput(f"--shard {shard!r} must be I/N, such as 0/2 for the first half")
    words["batch_size"] = _batch_size(words["batch_size"])
    plan = Plan(epsilons=epsilons, shard=(int(index), int(count)), **words)
    if not any(getattr(plan, name) for name in _EXAMS):
        plan = replace(plan, attacks=(_NEAREST if plan.curve else _STRONGEST,))
    return plan


def _batch_size(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise BadInput(f"--batch-size {text!r} must be a number of samples, such as 512, or auto")
    return int(text)


def size_of(text: str) -> float:
    """Return the size of a change, as --epsilon takes it.

    Raises:
        BadInput: it is none.
    """
    try:
        return number(text)
    except ValueError as error:
        raise BadInput(
            f"--epsilon {text!r} must be a finite number above 0, such as 0.1 or 8/255"
        ) from error


def new_folder(runs: Path, plan: Plan) -> Path:
    """Return a folder that does not exist yet, named after what runs."""
    asked = [text for name in _EXAMS for text in getattr(plan, name)]
    name = "-".join(_short(spec) for spec in (*asked[:3], *plan.models[:3], plan.data))
    number, folder = 1, runs / name
    while folder.exists():
        number += 1
        folder = runs / f"{name}-{number}"
    return folder


def _short(spec: str) -> str:
    """Return the names in a chain of plugins, without options, fit for a file."""
    names = (part.split(":")[0].replace("/", ".") for part in split_recipe(spec))
    return "+".join(names)


def report(
    records: Iterable[Record],
    folder: Path,
    as_json: bool,
    *,
    curve: bool = False,
    pictures: bool = False,
) -> None:
    """Print the records as they come, or a table of them all; a failed case ends in exit code 1.

    Raises:
        TrustError: every row that was asked for was skipped.
    """
    done = []
    with _resumable(folder):
        for record in records:
            done.append(record)
            if as_json:
                click.echo(to_line(record))
    plan = read_plan(folder)
    planned = size(plan)
    if not as_json:
        screen = console()
        for part in render(done):
            screen.print(part)
        if len(done) < planned:
            count = f"{len(done)} of {planned} cases are finished."
            screen.print(f"{count} {_go_on(folder)}", soft_wrap=True)
        drawn = _drawn(folder) if pictures else []
        if drawn:
            names = ", ".join(path.stem for path in drawn[:_SHOWN])
            names += ", …" if len(drawn) > _SHOWN else ""
            lie = "picture (PNG) lies" if len(drawn) == 1 else "pictures (PNG) lie"
            screen.print(f"{len(drawn)} {lie} beside it: {names}")
        stolen = theft_picture(folder) if pictures else None
        if stolen is not None:
            screen.print(f"Agreement against queries is drawn in {stolen}", soft_wrap=True)
        screen.print(*_of_routes(folder, pictures), sep="\n", end="", soft_wrap=True)
        if curve:
            screen.print(f"The curve is drawn in {_draw_curve(folder)}", soft_wrap=True)
        screen.print(f"The run lies in {folder}", soft_wrap=True)
    _end(done, plan)


def _end(done: list[Record], plan: Plan) -> None:
    if any(record.status == "failed" for record in done):
        sys.exit(1)
    if len(done) == size(plan):
        check_measured(done, plan)


def _drawn(folder: Path) -> list[Path]:
    return [
        *detector_pictures(folder),
        *explanation_pictures(folder),
        *inspection_pictures(folder),
    ]


def _of_routes(folder: Path, pictures: bool) -> list[str]:
    """Draw routes and safeguards, if there are some; return what is to be said of it."""
    drawn = route_pictures(folder) if pictures else []
    return [f"Routes and safeguards are drawn in {path}\n" for path in drawn]


def _draw_curve(folder: Path) -> Path:
    write_whole(folder / "curve.png", curve_picture(curves(folder)))
    return folder / "curve.png"


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say how to go on when the person stops the run."""
    try:
        yield
    except KeyboardInterrupt:
        begun = (folder / PLAN).exists()
        click.echo(f"Stopped. {_go_on(folder) if begun else 'Nothing was begun.'}", err=True)
        sys.exit(130)


def _go_on(folder: Path) -> str:
    return f"Continue with: trustml bench --resume {folder}"
