"""`trustml runs` and `trustml leaderboard`: many runs listed, exported, ranked."""

import json
from pathlib import Path

import click

from trustml.benchmarks.shelf import read_filter, rows, runs
from trustml.errors import BadInput
from trustml.files import write_whole
from trustml.reports.shelf import FORMS, exported, leaderboard, leaderboard_page, runs_table
from trustml.reports.tables import console


def print_runs(
    home: Path, where: tuple[str, ...], form: str | None, out: str | None, as_json: bool
) -> None:
    """Print the runs that fit, or write all their scores to a file.

    Raises:
        UsageError: no such folder, field or form.
    """
    if (form is None) != (out is None):
        raise BadInput(f"--to {'|'.join(FORMS)} and --out FILE go together")
    found = runs(home, read_filter(where))
    if form is not None and out is not None:
        click.echo(f"{exported(found, form, Path(out))} rows written: {out}")
    elif as_json:
        for row in rows(found):
            click.echo(json.dumps(row))
    elif found:
        console().print(runs_table(found))
    else:
        click.echo(f"No run below {home} fits.")


def print_leaderboard(home: Path, where: tuple[str, ...], out: str | None) -> None:
    """Print models ranked by what remains under attack, and write the same as a page.

    Raises:
        UsageError: no such folder or field, or no run of attacks.
    """
    found = runs(home, read_filter(where))
    content = leaderboard_page(found, home)
    path = Path(out) if out is not None else home / "leaderboard.html"
    screen = console()
    for table in leaderboard(found):
        screen.print(table)
    write_whole(path, content.encode())
    screen.print(f"The page lies in {path}", soft_wrap=True)
