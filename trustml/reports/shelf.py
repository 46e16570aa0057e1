"""Many runs: a table of them, a leaderboard of their models, and files for other programs."""

import csv
from collections.abc import Iterable, Sequence
from io import BytesIO, StringIO
from pathlib import Path

from rich.table import Table

from trustml.benchmarks.shelf import Run, rows
from trustml.contracts import Record
from trustml.errors import BadInput, MissingPackage, UnknownName
from trustml.files import write_whole
from trustml.reports import markup
from trustml.reports.page import page
from trustml.reports.tables import DASH, percent, plain_table, spec_of

FORMS = ("csv", "parquet")
Group = tuple[str, str, str, float, str]  # data, their hash, norm, epsilon, what is aimed at
_NOTE = (
    "Models are ranked by what remains under all attacks of their run together; of several runs of "
    "one model, by the run that leaves least. Rows are compared "
    "only where samples and budget are the same; where the attacks were weaker, the number is too "
    "high: the last column tells which they were."
)


def runs_table(found: Sequence[Run]) -> Table:
    """Return the table of the runs, a line each."""
    table = plain_table("Runs", "run", [])
    for name in ("begun", "examined", "cases", "worst robust %"):
        table.add_column(name, justify="right" if name in ("cases", "worst robust %") else "left")
    for run in found:
        models = ", ".join(dict.fromkeys(spec_of(text)[0] for text in run.plan.models))
        kinds = ", ".join(dict.fromkeys(record.kind for record in run.records))
        done = sum(record.status == "done" for record in run.records)
        left = [r.scores["robust accuracy"].value for r in _worst(run.records)]
        table.add_row(
            str(run.folder), f"{run.begun:%Y-%m-%d %H:%M}",
            f"{models} on {run.plan.data.split(':')[0]}\n{kinds or DASH}",
            f"{done}/{run.planned if run.planned is not None else '?'}",
            f"{100 * min(left):.1f}" if left else DASH,
        )  # fmt: skip
    return table


def exported(found: Sequence[Run], form: str, path: Path) -> int:
    """Write a row for each score of each record, and return how many.

    Raises:
        UnknownName: no such form.
        BadInput: there is nothing to write.
        MissingPackage: Parquet needs pyarrow.
    """
    if form not in FORMS:
        raise UnknownName.of("form of table", form, FORMS)
    flat = list(rows(found))
    if not flat:
        raise BadInput("no run has a record yet, so there is nothing to write")
    if form == "csv":
        text = StringIO(newline="")
        writer = csv.DictWriter(text, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
        write_whole(path, text.getvalue().encode())
    else:
        write_whole(path, _parquet(flat))
    return len(flat)


def _parquet(flat: Sequence[dict[str, object]]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackage(
            "Parquet needs pyarrow: pip install 'trustml[parquet]', or use --to csv"
        ) from error
    buffer = BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(flat)), buffer)
    return buffer.getvalue()


def leaderboard(found: Iterable[Run]) -> list[Table]:
    """Return a table for each set of samples and budget, the model with most left first."""
    groups: dict[Group, list[tuple[Record, Run]]] = {}
    for run in found:
        for record in _worst(run.records):
            threat = record.threat
            steps = f" in {threat['grid']} steps" if "grid" in threat else ""
            aim = "" if threat["target"] == "none" else f", aimed at {threat['target']}"
            norm, epsilon = f"{threat['norm']}{steps}", float(threat["epsilon"])
            key = (record.data, record.data_hash, norm, epsilon, aim)
            groups.setdefault(key, []).append((record, run))
    return [_ranked(key, group) for key, group in sorted(groups.items(), key=lambda g: g[0])]


def leaderboard_page(found: Sequence[Run], home: Path) -> str:
    """Return the leaderboard as a page.

    Raises:
        BadInput: no run has a worst case of all attacks.
    """
    tables = leaderboard(found)
    if not tables:
        raise BadInput(f"no finished run of attacks lies below {home}")
    parts = [markup.paragraph(_NOTE, "small"), *(markup.table(table) for table in tables)]
    return page("trustml leaderboard", [("Models", "models", parts)])


def _worst(records: Iterable[Record]) -> list[Record]:
    """Return the rows of all attacks together within a budget."""
    return [
        r for r in records
        if r.plugin == "all" and r.kind == "union" and r.status == "done"
        and not r.threat.get("whole_box") and not r.threat.get("surrogates")
    ]  # fmt: skip


def _ranked(key: Group, group: list[tuple[Record, Run]]) -> Table:
    data, digest, norm, epsilon, aim = key
    table = plain_table(
        f"{data.split(':')[0]} (samples {digest[:8]}), {norm} ≤ {epsilon:.4g}{aim}",
        "model", ["robust %", "95 %", "clean %", "proved %"],
    )  # fmt: skip
    table.add_column("attacks, run")
    # Of one model's runs the one that leaves least: a weak attack must not put it in front.
    ordered = sorted(group, key=lambda g: -g[0].scores["robust accuracy"].value)
    least = {pair[0].weights: pair for pair in ordered}
    for record, run in (pair for pair in ordered if least[pair[0].weights] is pair):
        robust, clean = record.scores["robust accuracy"], record.scores["clean accuracy"]
        proved = record.scores.get("certified accuracy")
        attacks = ", ".join(text.split(":")[0] for text in run.plan.attacks)
        table.add_row(
            f"{spec_of(record.model)[0]}\nseed {record.seed}, {record.weights[:8]}",
            percent(robust.value).removesuffix(" %"),
            f"{100 * robust.low:.1f}{DASH}{100 * robust.high:.1f}",
            f"{100 * clean.value:.1f}", f"{100 * proved.value:.1f}" if proved else DASH,
            f"{attacks}\n{run.folder}",
        )  # fmt: skip
    return table
