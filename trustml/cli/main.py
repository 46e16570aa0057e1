"""The command `trustml`: words → plan; nothing else. Heavy imports wait until a command runs."""

import sys
from pathlib import Path
from typing import Any

import click

from trustml.errors import TrustError, UsageError

RUNS = Path("trustml-runs")
PLUGIN = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE", help="Load plugins from a file."
)
DATA_DIR = click.option("--data-dir", metavar="DIR", help="Where to look for data files first.")
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
DATA = click.option(
    "--data", default="digits", show_default=True, help="Data set, as name:key=value,…"
)
SEED = click.option(
    "--seed", default=0, show_default=True, help="Of the training and of the attacks."
)


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"trustml {version('trustml')}")
    except PackageNotFoundError:
        click.echo("trustml, not installed: run from its source tree")
    context.exit()


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog="\b\nExamples:\n"
    "  trustml bench --attack pgd --model mlp      attack a model and judge it\n"
    "  trustml list attack                         what there is to choose from",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Find out how far a classifier can be trusted."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(
    epilog="Example: trustml bench --attack pgd:steps=100 --attack apgd --model cnn --data mnist"
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    show_default="strongest",
    help="Attack, as name:key=value,… (repeat for several).",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("mlp",),
    show_default=True,
    help="Model, as name:key=value,… (repeat for several).",
)
@DATA
@click.option(
    "--norm",
    "norms",
    multiple=True,
    default=("linf",),
    show_default=True,
    help="linf, l2, l1 or l0 (repeat for several).",
)
@click.option(
    "--epsilon",
    "epsilons",
    multiple=True,
    metavar="NUMBER",
    help="Budget in the norm; 8/255 is a number (repeat for several). Default: usual for the data.",
)
@click.option(
    "--target", default="none", show_default=True, help="none, next, or a class number to reach."
)
@click.option(
    "--curve",
    is_flag=True,
    help="Whole curve of robust accuracy against epsilon, by minimum-norm attacks; drawn as a PNG.",
)
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    help="Detector, or front ends and one: react+energy (repeat for several).",
)
@click.option(
    "--attribution",
    "attributions",
    multiple=True,
    help="Explanation, as name:key=value,… (repeat for several).",
)
@click.option(
    "--ood",
    "outside",
    multiple=True,
    metavar="NAME",
    help="Set to be told from the test set (repeat). Default: every partner of the data.",
)
@click.option(
    "--false-alarms",
    default=0.05,
    show_default=True,
    help="Share of ordinary inputs that a detector may stop.",
)
@click.option("--budget", default=0, metavar="N", help="Queries a sample at most; 0 is no bound.")
@click.option(
    "--certify",
    default="auto",
    show_default=True,
    help="What to prove first: auto (what is quick), tight (CROWN bounds too) or off.",
)
@click.option(
    "--indicators/--no-indicators",
    default=True,
    show_default=True,
    help="Look for signs that the attacks, not the model, decide.",
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="Of the search: auto, float32 or bfloat16. Verdicts are float32.",
)
@SEED
@click.option(
    "--seeds", default=1, show_default=True, help="Train and examine so many, and pool them."
)
@click.option("--limit", default=0, metavar="N", help="Only the first N test samples; 0 is all.")
@click.option("--batch-size", default=512, show_default=True, help="Samples in flight.")
@click.option(
    "--shard", default="0/1", show_default=True, help="Part I of N of the samples, as I/N."
)
@click.option(
    "--order", default="given", show_default=True, help="given or reversed order of samples."
)
@DEVICE
@DATA_DIR
@PLUGIN
@click.option(
    "--out", metavar="DIR", help="Directory of the run. Default: a new one in trustml-runs/."
)
@click.option("--resume", metavar="DIR", help="Continue a stopped run as it was begun.")
@JSON
def bench(out: str | None, resume: str | None, as_json: bool, **words: Any) -> None:
    """Attack models and print how robust they are."""
    from trustml.benchmarks import harness
    from trustml.benchmarks.exams import checked
    from trustml.cli.running import new_folder, plan_of, report

    if resume is not None:
        _check_alone("resume", "as_json")
        folder = Path(resume)
        records = harness.resume(folder)
    else:
        plan = plan_of(words)
        checked(plan)  # before its words name a folder
        folder = new_folder(RUNS, plan) if out is None else Path(out)
        records = harness.start(plan, folder)
    drawn = bool(words["curve"]) and resume is None
    report(records, folder, as_json, curve=drawn, pictures=True)


def _check_alone(*allowed: str) -> None:
    """Refuse options that a resumed run, which has its own, would ignore.

    Raises:
        UsageError: there is one.
    """
    context = click.get_current_context()
    for option in context.command.params:
        given = context.get_parameter_source(str(option.name))
        if option.name not in allowed and given is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(
                f"--resume continues a run as it was begun; leave {option.opts[0]} out, or start "
                f"another run"
            )


@cli.command(epilog="Example: trustml show trustml-runs/pgd-mlp-digits --picture fooled.png")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--picture",
    metavar="FILE",
    help="Draw originals, adversarials and differences as a PNG instead.",
)
@JSON
def show(run: Path, picture: str | None, as_json: bool) -> None:
    """Print the table of a finished or stopped run, or draw what fooled the model."""
    from trustml.benchmarks.harness import finished
    from trustml.cli.running import report

    if picture is None:
        report(finished(run), run, as_json)
        return
    from trustml.benchmarks.fooled import fooled
    from trustml.files import write_whole
    from trustml.reports.sheet import sheet

    found = fooled(run, 10)
    pair = (found.x, found.adversarial)
    write_whole(Path(picture), sheet(pair, found.true, found.answered, found.case))
    click.echo(f"drawn: {picture}")


@cli.command(epilog="Example: trustml compare trustml-runs/before trustml-runs/after")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@JSON
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Print how the robust accuracies and verdicts of two runs differ."""
    import json
    from dataclasses import asdict

    from trustml.benchmarks.compare import differences, in_one_only
    from trustml.reports.comparison import comparison
    from trustml.reports.tables import console

    rows = differences(first, second)
    if as_json:
        for row in rows:
            click.echo(json.dumps(asdict(row)))
    else:
        console().print(comparison(rows, first, second))
        for folder, cases in zip((first, second), in_one_only(first, second), strict=True):
            if cases:
                click.echo(f"only in {folder}: {', '.join(cases)}")


@cli.command(epilog="Example: trustml verify trustml-runs/pgd-mlp-digits")
@click.argument("run", type=click.Path(path_type=Path))
@DEVICE
def verify(run: Path, device: str) -> None:
    """Check every stored claim of a run again: bytes, ball, box, misreading, scores."""
    from trustml.benchmarks.exams import size
    from trustml.benchmarks.plan import read_plan
    from trustml.benchmarks.verify import verify as claims

    planned, count = size(read_plan(run)), 0
    for record in claims(run, device):
        count += 1
        done = record.status == "done"
        click.echo(
            f"holds: {record.case}"
            if done
            else f"nothing to check: {record.case} ({record.status})"
        )
    of = f"the {count} cases" if count == planned else f"the {count} finished of {planned} cases"
    click.echo(f"Every claim of {of} in {run} holds.")


@cli.command(name="list", epilog="Example: trustml list attack")
@click.argument("kind", required=False)
@PLUGIN
@JSON
def list_(kind: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Print what there is: names, sources, options with defaults, access, norms."""
    from trustml.cli.listing import print_listing

    print_listing(kind, plugins, as_json)


@cli.command(epilog="Example: trustml train --model cnn --data fashion_mnist")
@click.option("--model", required=True, help="Model, as name:key=value,…")
@DATA
@SEED
@DEVICE
@DATA_DIR
@PLUGIN
@click.option("--out", metavar="DIR", help="Where figure and weights go. Default: trustml-runs/.")
@click.option("--fresh", is_flag=True, help="Train again even if the model is in the cache.")
def train(model: str, out: str | None, **words: Any) -> None:
    """Train a model, keep it, and draw its training figure."""
    from trustml.cli.training import print_training

    print_training(model, Path(out) if out else RUNS, **words)


def main() -> None:
    """Run the command; every failure is one line on stderr and an exit code."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "Stopped. What was finished is kept: trustml bench --resume DIR continues.", err=True
        )
        sys.exit(130)
    except TrustError as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except (
        OSError
    ) as error:  # the screen or the pipe behind it, say: files have errors of their own
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
