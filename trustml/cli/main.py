"""The command `trustml`: words → plan; nothing else. Heavy imports wait until a command runs."""

import sys
from pathlib import Path
from typing import Any

import click

from trustml.cli.audit import audit, replay, report
from trustml.cli.bench import bench
from trustml.cli.lines import say, say_error
from trustml.cli.promotion import promote
from trustml.cli.provenance import provenance
from trustml.cli.targeting import target
from trustml.cli.training import train
from trustml.cli.words import DATA, DATA_DIR, DEVICE, JSON, PLUGIN, RUNS, SEED, WHERE
from trustml.errors import NotApplicable, TrustError, UsageError


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
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
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


cli.add_command(bench)
cli.add_command(target)
cli.add_command(audit)
cli.add_command(report)
cli.add_command(replay)
cli.add_command(promote)
cli.add_command(provenance)
cli.add_command(train)


@cli.command(
    short_help="Print the table of a run, or draw what fooled the model.",
    epilog="Example: trustml show trustml-runs/pgd-mlp-digits --picture fooled.png",
)
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
    from trustml.cli.reach import check_without
    from trustml.cli.running import report as print_run

    if picture is None:
        print_run(finished(run), run, as_json)
        return
    check_without("beside --picture, which prints no table", "as_json")
    from trustml.benchmarks.fooled import fooled
    from trustml.files import write_whole
    from trustml.reports.sheet import sheet

    found = fooled(run, 10)
    pair = (found.x, found.adversarial)
    write_whole(Path(picture), sheet(pair, found.true, found.answered, found.case))
    click.echo(f"drawn: {picture}")


@cli.command(
    short_help="List runs, or write their scores to a file.",
    epilog="Example: trustml runs trustml-runs --where model=cnn --to csv --out runs.csv",
)
@click.argument("folder", type=click.Path(path_type=Path), default=RUNS)
@WHERE
@click.option("--to", "form", help="csv or parquet: a row for each score of each record.")
@click.option("--out", metavar="FILE", help="Where that goes.")
@JSON
def runs(
    folder: Path, where: tuple[str, ...], form: str | None, out: str | None, as_json: bool
) -> None:
    """List the runs below a folder, or write all their scores to one file."""
    from trustml.cli.reach import check_without
    from trustml.cli.shelving import print_runs

    if form is not None:
        check_without(f"with --to {form}, which writes a file", "as_json")
    print_runs(folder, where, form, out, as_json)


@cli.command(
    short_help="Rank the models of many runs.",
    epilog="Example: trustml leaderboard trustml-runs --where data=mnist",
)
@click.argument("folder", type=click.Path(path_type=Path), default=RUNS)
@WHERE
@click.option("--out", metavar="FILE", help="Where the page goes. Default: into the folder.")
def leaderboard(folder: Path, where: tuple[str, ...], out: str | None) -> None:
    """Rank the models of many runs by what remains under attack, on the same samples and budget."""
    from trustml.cli.shelving import print_leaderboard

    print_leaderboard(folder, where, out)


@cli.command(
    short_help="Print how two runs differ.",
    epilog="Example: trustml compare trustml-runs/before trustml-runs/after",
)
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
                say(f"only in {folder}: {', '.join(cases)}")


@cli.command(
    short_help="Check every stored claim of a run again.",
    epilog="Example: trustml verify trustml-runs/pgd-mlp-digits",
)
@click.argument("run", type=click.Path(path_type=Path))
@DEVICE
def verify(run: Path, device: str) -> None:
    """Check every stored claim of a run again, and exit 1 where one does not hold.

    That is: the bytes of its files, that each changed input keeps to its budget and to the range
    of values, that the model misreads it, and the scores.
    """
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


@cli.command(
    name="list",
    short_help="Print what there is, or all about one plugin.",
    epilog="\b\nExamples:\n"
    "  trustml list attacks                          what there is of a kind\n"
    "  trustml list attack jsma                      its options, and a command to try\n"
    "  trustml list attacks --like foolbox.LinfPGD   what it is called here",
)
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option(
    "--like",
    metavar="NAME",
    help="What an attack of foolbox, art, torchattacks, adv_lib or autoattack is called here.",
)
@PLUGIN
@JSON
def list_(
    kind: str | None, name: str | None, like: str | None, plugins: tuple[str, ...], as_json: bool
) -> None:
    """Print what there is: names, sources, options with defaults, and what each kind declares.

    KIND is attack, attribution, corruption, countermeasure, data, detector, inspection, model,
    poison, route, safeguard, stealer or target. With the NAME of one plugin: what each of its
    options means, and an example.
    """
    if like is None:
        from trustml.cli.listing import print_listing

        print_listing(kind, name, plugins, as_json)
        return
    from trustml.cli.likeness import print_likeness
    from trustml.cli.reach import check_without

    check_without("beside --like, which names the attack", "name", "plugins")
    print_likeness(kind, like, as_json)


@cli.command(
    short_help="Say and draw why a model answers what it answers.",
    epilog="Example: trustml explain mlp --input 3 --attribution integrated_gradients",
)
@click.argument("model")
@click.option("--input", "asked", required=True, help="A picture file, or a row of the test set.")
@click.option(
    "--attribution",
    "attributions",
    multiple=True,
    default=("integrated_gradients", "smooth_grad", "occlusion"),
    show_default=True,
    help="Explanation, as name:key=value,… (repeat for several).",
)
@click.option("--target", type=int, help="Class to be explained. Default: the answered one.")
@DATA
@SEED
@DEVICE
@DATA_DIR
@PLUGIN
@click.option("--out", metavar="FILE", help="Where the picture (PNG) goes.")
def explain(model: str, asked: str, out: str | None, **words: Any) -> None:
    """Say and draw why a model answers what it answers to one input."""
    from trustml.cli.explaining import print_explanation

    print_explanation(model, asked, Path(out) if out else None, **words)


def main() -> None:
    """Run the command; every failure is one line on stderr and an exit code."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        say_error(error.format_message())
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "Stopped. What was finished is kept: trustml bench --resume DIR continues.", err=True
        )
        sys.exit(130)
    except TrustError as error:
        say_error(str(error))
        # In a run it skips a case; here it is what was asked for that does not fit.
        sys.exit(2 if isinstance(error, UsageError | NotApplicable) else 1)
    except (
        OSError
    ) as error:  # the screen or the pipe behind it, say: files have errors of their own
        say_error(str(error))
        sys.exit(1)
