"""A run as one page: what was tested, what came out, what is missing, how to repeat it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from rich.table import Table
from rich.text import Text

from trustml.benchmarks.command import budgets_of, commands
from trustml.benchmarks.exams import size
from trustml.benchmarks.harness import finished
from trustml.benchmarks.plan import PLAN, Plan, read_plan
from trustml.contracts import Json, Record
from trustml.files import write_whole
from trustml.reports import markup
from trustml.reports.pictures import Picture, pictures_of
from trustml.reports.table import render
from trustml.reports.tables import spec_of

PAGE = "report.html"
_NAMES = {"name": "machine"}
Part = tuple[str, str, list[str]]


def write_page(folder: Path) -> Path:
    """Draw what is not yet drawn of the run, write its page into its folder, and return the file.

    Raises:
        BadInput: the folder holds no run.
        BrokenClaim: its files are damaged.
    """
    plan, records = read_plan(folder), finished(folder)
    sections = [
        ("What was tested", "tested", [_tested(plan, records, folder)]),
        *results(records),
        *shown(pictures_of(folder)),
        ("What is missing", "missing", list(_missing(plan, records))),
        ("How to run it again", "again", list(_again(plan, records, folder))),
    ]
    title = f"{title_of(plan)}: trustml report"
    write_whole(folder / PAGE, page(title, sections, verdicts(records)).encode())
    return folder / PAGE


def page(title: str, sections: Sequence[Part], above: Iterable[str] = ()) -> str:
    """Return the page of the sections, each a title, an anchor and its parts."""
    links = markup.contents((name, anchor) for name, anchor, _ in sections)
    body = [markup.section(name, anchor, parts) for name, anchor, parts in sections]
    head = f"<header><h1>{escape(title)}</h1></header>"
    return markup.document(title, [head, *above, links, "<main>", *body, "</main>"])


def verdicts(records: Sequence[Record]) -> list[str]:
    """Return the verdicts as parts of the page."""
    texts = (part for part in render(records) if isinstance(part, Text))
    return [markup.paragraph(text.plain, "verdict") for text in texts if text.style == "bold"]


def results(records: Sequence[Record], anchor: str = "results") -> list[Part]:
    """Return the section of all tables and verdicts; none where nothing is finished."""
    parts = list(_rendered(records))
    return [("Results", anchor, parts)] if parts else []


def shown(pictures: Sequence[Picture], anchor: str = "pictures") -> list[Part]:
    """Return the section of the pictures; none where there is no picture."""
    parts = [markup.picture(each.png, each.said, each.caption) for each in pictures]
    return [("Pictures", anchor, parts)] if parts else []


def title_of(plan: Plan) -> str:
    """Return what was examined on which data, in short."""
    models = ", ".join(dict.fromkeys(spec_of(text)[0] for text in plan.models))
    return f"{models} on {spec_of(plan.data)[0]}"


def _rendered(records: Sequence[Record]) -> Iterator[str]:
    """Yield the terminal's tables and sentences as parts of the page."""
    for part in render(records):
        if isinstance(part, Table):
            yield markup.table(part)
        elif isinstance(part, Text) and part.plain:
            kinds = {"bold": "verdict", "yellow": "note"}
            yield markup.paragraph(part.plain, kinds.get(str(part.style), ""))


def _tested(plan: Plan, records: Sequence[Record], folder: Path) -> str:
    begun = datetime.fromtimestamp((folder / PLAN).stat().st_mtime, UTC)
    place = records[0].place if records else {}
    weights = dict.fromkeys(r.weights for r in records if r.weights)
    samples = dict.fromkeys(r.data_hash for r in records if r.data_hash)
    pairs = [
        *(("model", text) for text in plan.models),
        *(("weights (SHA-256)", text) for text in weights),
        ("data", plan.data),
        *(("samples (SHA-256)", text) for text in samples),
        ("begun", f"{begun:%Y-%m-%d %H:%M} UTC"),
        *((_NAMES.get(n, n), _told(value)) for n, value in place.items() if value != ""),
    ]
    return markup.facts(pairs)


def _told(value: Json) -> str:
    """Return a fact of a place; records of before have no version of a source tree."""
    return "source tree" if value == "not installed" else json.dumps(value).strip('"')


def _missing(plan: Plan, records: Sequence[Record]) -> Iterator[str]:
    """Say what failed, what was skipped, what was not come to: nothing of it is a pass."""
    lost = [f"{r.case}: {r.status}: {r.reason}" for r in records if r.status != "done"]
    planned = size(plan)
    if len(records) < planned:
        lost.append(f"{len(records)} of {planned} cases are finished; the others were not begun")
    if lost:
        yield markup.paragraph("These cases say nothing about the model, neither good nor bad:")
        yield markup.items(lost)
    else:
        yield markup.paragraph(f"All {planned} cases that were asked for are finished.")
    kinds = {record.kind for record in records}
    wanting = [said for known, said in _EXAMS if not kinds.intersection(known)]
    if wanting:
        yield markup.paragraph("Not asked for, so nothing is known about it:")
        yield markup.items(wanting)


# The kinds of an exam's records, and what is not known without them.
_EXAMS = (
    (("attack",), "how easily it is fooled (--attack)"),
    (("corruption",), "how it reads under weather, blur and noise (--corruption)"),
    (("detector",), "whether it knows what it does not know (--detector)"),
    (("attribution",), "whether its explanations can be relied on (--attribution)"),
    (("stealer",), "how easily it is stolen (--stealer)"),
    (("route", "poison"), "what tampering with mail or training does (--route, --poison)"),
    (("inspection",), "whether it looks as if it had a backdoor (--inspection)"),
)


def _again(plan: Plan, records: Sequence[Record], folder: Path) -> Iterator[str]:
    again = commands(plan, budgets_of(records))
    yield markup.paragraph(
        "The same run again; seeds and every option are in the command:"
        if len(again) == 1
        else "The same cases again; each norm has a budget of its own, and so a command:"
    )
    yield from (markup.verbatim(one) for one in again)
    yield markup.paragraph("Every stored claim checked again, from the files of this run:")
    yield markup.verbatim(f"trustml verify {folder}")
