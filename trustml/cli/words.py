"""Options that several commands share."""

from pathlib import Path

import click

from trustml.errors import BadInput

RUNS = Path("trustml-runs")
PLUGIN = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="Load plugins from a Python file (repeat).",
)


def _folder(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return the folder as it is given.

    Raises:
        BadInput: there is none.
    """
    if value is not None and not Path(value).expanduser().is_dir():
        raise BadInput(f"--data-dir {value}: no such folder")
    return value


DATA_DIR = click.option(
    "--data-dir", metavar="DIR", callback=_folder, help="Where data files are looked for first."
)
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."
)
JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, a line each, for programs."
)
FAIL_ON = click.option(
    "--fail-on",
    metavar="SEVERITY",
    help="critical, high, medium or low: such findings, or worse, fail (exit code 3 of an audit).",
)
WHERE = click.option(
    "--where",
    multiple=True,
    metavar="FIELD=TEXT",
    help="Only runs whose run, model, data, plugin, kind, device, commit or status holds the text.",
)
DATA = click.option(
    "--data", default="digits", show_default=True, help="Data set, as name:key=value,…"
)
SEED = click.option("--seed", default=0, show_default=True, help="Of all that is drawn at random.")
