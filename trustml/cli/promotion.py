"""`trustml promote`: whether a retrained model may take the place of the one in service."""

import click

from trustml.cli.lines import say
from trustml.cli.words import DATA, DATA_DIR, DEVICE, PLUGIN, SEED

REFUSED = 3  # exit code


@click.command(
    short_help="May a retrained model replace the one in service?",
    epilog="Example: trustml promote --old cnn:weights=old.safetensors --new "
    "cnn:weights=new.safetensors --data mnist --sealed 9f86d0…",
)
@click.option("--old", required=True, metavar="MODEL", help="Recipe of the model in service.")
@click.option("--new", required=True, metavar="MODEL", help="Recipe of the model to be promoted.")
@DATA
@click.option(
    "--sealed",
    default="",
    metavar="HASH",
    help="Of the test set, as an earlier run of this command printed it; another set is refused.",
)
@click.option(
    "--allowed", default=0.05, show_default=True, help="How much a class's recall may fall."
)
@click.option(
    "--doubt", default=0.5, show_default=True, help="Chance of a larger fall that refuses a class."
)
@SEED
@DEVICE
@DATA_DIR
@PLUGIN
def promote(
    old: str,
    new: str,
    data: str,
    sealed: str,
    allowed: float,
    doubt: float,
    seed: int,
    device: str,
    data_dir: str | None,
    plugins: tuple[str, ...],
) -> None:
    """Compare each class's recall on the test set; exit 3 where one fell by too much.

    It sees clean samples alone: a backdoor that sleeps until its trigger, as of BadNets, passes.
    """
    from trustml import registry
    from trustml.benchmarks.place import device_of
    from trustml.benchmarks.plan import check_seed
    from trustml.benchmarks.setting import blaming, clean_logits, load_data
    from trustml.promotion import check_seal, promotion
    from trustml.recipes import read_recipe
    from trustml.splits import data_hash
    from trustml.store import trained

    check_seed(seed)
    for path in plugins:
        registry.load_file(path)
    recipes, where = [read_recipe(text) for text in (old, new)], device_of(device)
    dataset = load_data(data, data_dir)
    if sealed:
        check_seal(dataset.test, sealed)
    logits = []
    for recipe in recipes:
        with blaming(f"model {recipe.name}"):
            module = trained(recipe, dataset, seed, where).module
            logits.append(clean_logits(module, dataset.test, where).cpu())
    verdict = promotion(logits[0], logits[1], dataset.test.y, allowed=allowed, doubt=doubt)
    for change in verdict.changes:
        say(
            f"{dataset.class_names[change.label]}: recall {100 * change.before.value:.1f} % → "
            f"{100 * change.after.value:.1f} % (95 % interval {100 * change.after.low:.1f} to "
            f"{100 * change.after.high:.1f}) of {change.count}; chance of a fall by more than "
            f"{100 * allowed:g} points: {change.chance:.2g}{' REFUSED' if change.refused else ''}"
        )
    click.echo(f"held-out set: {data_hash(dataset.test)}" + ("" if sealed else " (not sealed)"))
    click.echo("Clean samples only: a backdoor that sleeps until its trigger passes this gate.")
    if not verdict.promoted:
        click.echo("refused")
        click.get_current_context().exit(REFUSED)
    click.echo("promoted")
