"""`trustml audit`, `report` and `replay`; heavy imports wait until they run."""

from pathlib import Path
from typing import Any

import click

from trustml.cli.targeting import target_words
from trustml.cli.words import DATA, DATA_DIR, DEVICE, FAIL_ON, JSON, PLUGIN, RUNS, SEED


@click.command(
    short_help="Write a run or an audit as one page, or for programs.",
    epilog="\b\nExamples:\n"
    "  trustml report trustml-runs/pgd-mlp-digits\n"
    "  trustml report trustml-runs/audit-cnn-digits --to junit --fail-on high",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    default="page",
    show_default=True,
    help="page (report.html); of an audit also junit or sarif (for other programs), or tests (for "
    "pytest).",
)
@FAIL_ON
def report(run: Path, form: str, fail_on: str | None) -> None:
    """Write a run or an audit as one page that needs nothing else, or for other programs."""
    from trustml.cli.auditing import write_report
    from trustml.cli.reach import check_without

    if form != "junit":
        check_without(f"with --to {form}: findings fail in --to junit", "fail_on")
    write_report(run, form, fail_on or "high")


@click.command(
    short_help="All exams that a model allows: findings, one page.",
    epilog="\b\nExamples:\n"
    "  trustml audit model.onnx --data digits --fail-on high\n"
    "  trustml audit model.onnx --data digits --fail-on high --accept black_box",
)
@click.argument("model", required=False)
@DATA
@click.option(
    "--depth",
    default="standard",
    show_default=True,
    help="quick (minutes), standard, or thorough (hours).",
)
@click.option(
    "--epsilon",
    metavar="E",
    help="How far an attacker may change each pixel (Linf), such as 0.1 or 8/255, in the "
    "data's units. Default: the usual budgets of the data.",
)
@click.option(
    "--controls-of",
    default="",
    metavar="MODEL",
    help="Recipe of the honest models that backdoors are looked for beside. Default: the model's "
    "own; of a deployed one cnn for pictures, else mlp.",
)
@target_words
@SEED
@DEVICE
@DATA_DIR
@PLUGIN
@click.option(
    "--out", metavar="DIR", help="Directory of the audit. Default: a new one in trustml-runs/."
)
@click.option("--resume", metavar="DIR", help="Go on with a stopped audit.")
@click.option(
    "--budget",
    type=int,
    metavar="N",
    help="Inputs that a server is asked about at most, in the whole audit; 0 sets no limit. "
    "With --resume a higher one goes on where the last one ended.",
)
@FAIL_ON
@click.option(
    "--accept",
    multiple=True,
    metavar="NAME",
    help="A known finding, which is shown and does not fail: a section (robustness), a check "
    "(robustness/worst-case), or one finding as the page calls it; repeat for several. With "
    "--resume they take the place of those before.",
)
@JSON
def audit(
    model: str | None, out: str | None, fail_on: str | None, as_json: bool, **words: Any
) -> None:
    """Find out how far a model can be trusted: all exams that it allows, findings, one page.

    MODEL is a file (.onnx, .pt2, .skops), an address (http://…/v2/models/NAME), a Python function
    (file.py:build:weights=model.safetensors), or a recipe such as cnn.

    Exit code: 3 if a finding is as bad as --fail-on, or worse, and not accepted; else 1 if a
    section failed; else 0. 3 wins over 1.
    """
    from trustml.cli.auditing import run_audit
    from trustml.cli.reach import check_alone

    if words["resume"] is not None:
        check_alone("resume", "budget", "fail_on", "accept", "as_json")
    run_audit(model, Path(out) if out else None, fail_on, as_json, runs=RUNS, **words)


@click.command(
    short_help="Measure one finding of an audit again.",
    epilog="Example: trustml replay trustml-runs/audit-cnn-digits#F-001",
)
@click.argument("finding")
@click.option("--model", help="Measure another model instead, such as the next release.")
@JSON
def replay(finding: str, model: str | None, as_json: bool) -> None:
    """Measure one finding of an audit again; exit code 1 where the number is another one."""
    from trustml.cli.auditing import print_replay

    print_replay(finding, model, as_json)
